"""How an answer compares with its reference. After the SQuAD 1.1 evaluation script (Rajpurkar et al. 2016)."""

import re
import string
from collections import Counter
from collections.abc import Callable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation + "‘’“”–—…")


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and double spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over the words of both, in [0, 1]."""
    ours, theirs = normalise(answer).split(), normalise(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))


def exact_match(answer: str, reference: str) -> float:
    """1 when both are the same once normalised, else 0."""
    return float(normalise(answer) == normalise(reference))


METRICS: dict[str, Callable[[str, str], float]] = {"token_f1": token_f1, "exact_match": exact_match}
VECTORS = ("recall_at_1", "recall_at_10", "mrr", "ndcg_at_10", "spearman")
"""Figures of a model of vectors; see `ranking`."""
HEADLINE = ("mrr", "spearman", "token_f1")
"""The figure that stands for all, by what was measured."""
LABELS = {
    "token_f1": "token F1",
    "exact_match": "exact match",
    "recall_at_1": "recall@1",
    "recall_at_10": "recall@10",
    "mrr": "MRR",
    "ndcg_at_10": "nDCG@10",
    "spearman": "Spearman",
}
"""What figures are called for people."""
