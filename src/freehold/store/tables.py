"""The catalog's tables as this version knows them. A change to one needs a step in `migrations`."""

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, MetaData, String, Table

_schema = MetaData()
blobs = Table(
    "blobs",
    _schema,
    Column("digest", String, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("mtime_ns", Integer, nullable=False),
    Column("inode", Integer, nullable=False),
)
manifests = Table("manifests", _schema, Column("digest", String, primary_key=True))
names = Table(
    "names",
    _schema,
    Column("name", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("modified", Float, nullable=False),
)
leases = Table(
    "leases",
    _schema,
    Column("holder", String, primary_key=True),
    Column("digest", String, primary_key=True),
    Column("pid", Integer, nullable=False),
    Column("birth", String, nullable=False),
)
steps = Table(
    "steps",
    _schema,
    Column("key", String, primary_key=True),
    Column("result", LargeBinary, nullable=False),
)
step_digests = Table(
    "step_digests",
    _schema,
    Column("key", String, primary_key=True),
    Column("digest", String, primary_key=True),
)
models = Table(
    "models",
    _schema,
    Column("digest", String, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("architecture", String, nullable=False),
    Column("parameters", BigInteger, nullable=False),
    Column("quantization", String, nullable=False),
    Column("context_length", BigInteger, nullable=False),
    Column("embedding_length", BigInteger, nullable=False),
    Column("licence", String, nullable=False),
)
"""What listing shows of each manifest, so that it opens no file."""
scrubs = Table(
    "scrubs",
    _schema,
    Column("digest", String, primary_key=True),
    Column("checked", Float, nullable=False),
)
"""When each blob was last read from end to end, in seconds since 1970."""
