"""Questions about Freehold and about open models, with the product's own words."""

from .facts_freehold import FACTS, FRAMES
from .kit import Draw, Sample, Skill, chat, reply, typed


def asked(d: Draw) -> tuple[str, str]:
    """A question of this side of the split, and its answer."""
    questions, answer = d.pick(FACTS)
    variants: list[str] = []
    for question in questions.split("|"):
        frames = FRAMES.get(question[0])
        variants += [frame.format(question[1:]) for frame in frames] if frames else [question]
    return d.phrase(variants), answer


def make(d: Draw) -> Sample:
    """One or two questions."""
    question, answer = asked(d)
    if d.held:
        return reply(d, question, answer)
    user = typed(d, question)
    if d.chance(0.6):
        return reply(d, user, answer)
    second, final = asked(d)
    return Sample(chat(user, answer, typed(d, second), final))


SKILL = Skill("freehold", make, "f1")
