"""The text of each page of a PDF. Run as a script by data.foreign; it imports nothing of ours.

Writes a string for each page.
"""

import json
import logging
import resource
import sys

MEMORY, SECONDS = 2 << 30, 600


def main(path: str) -> None:
    """Write every page."""
    if sys.platform != "darwin":  # it counts what all programs share there, and would be refused
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import pypdf

    logging.disable()  # it complains of each object that is a little wrong
    reader = pypdf.PdfReader(path)
    if reader.is_encrypted and not reader.decrypt(""):
        sys.exit("it is encrypted: remove its password first")
    for page in reader.pages:
        sys.stdout.write(json.dumps(page.extract_text().encode("utf-8", "replace").decode()) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
