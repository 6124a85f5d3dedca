"""Diversity: how much the answers to one problem differ."""

from collections.abc import Sequence

from entrocraft.errors import MissingDependencyError


def num_distinct(answers: Sequence[str | None]) -> int:
    """Return how many different answers there are; None, no answer, counts for nothing.

    Example:
        >>> num_distinct(["4", "4", "5", None])
        2
    """
    return len({answer for answer in answers if answer is not None})


def self_bleu(texts: Sequence[str], most: int = 8) -> float:
    """Return how alike texts are: the mean BLEU of each against all the others.

    Args:
        texts: Texts to compare, at least 2.
        most: Number of texts to compare, the first ones: the cost is quadratic.

    Returns:
        Mean BLEU-4, 0 to 1; 1 if all texts are the same.

    Raises:
        MissingDependencyError: sacrebleu is not installed.

    Source: Texygen (1802.01886), with smoothed sentence BLEU-4 of sacrebleu.

    Example:
        >>> round(self_bleu(["two and two is four"] * 3), 6)
        1.0
        >>> self_bleu(["a b c d e", "v w x y z"]) < 0.1
        True
    """
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise MissingDependencyError("self-BLEU needs sacrebleu: pip install 'entrocraft[eval]'") from error
    texts = list(texts[:most])
    if len(set(texts)) == 1:
        return 1.0
    # A text of fewer than four words is compared by the word groups that it can have.
    metric = BLEU(effective_order=True)
    scores = [metric.sentence_score(text, texts[:i] + texts[i + 1 :]).score for i, text in enumerate(texts)]
    return sum(scores) / len(scores) / 100  # sacrebleu gives percentages
