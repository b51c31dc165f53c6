"""Other wordings of facts, made by rule: the same fact in words that a model was not taught."""

from __future__ import annotations

from tripletcl.data import Fact

KINDS = {"person": "man", "dog": "puppy", "horse": "pony", "car": "automobile", "boat": "vessel", "bird": "fowl"}
"""Of each subject of the test photographs, a synonym or a kind."""

VERBS = {
    "balancing": "poised", "biting": "nipping", "blowing": "making", "carrying": "bringing", "catching": "grabbing",
    "climbing": "scaling", "dancing": "waltzing", "drinking": "sipping", "eating": "having", "falling": "plunging",
    "fishing": "angling", "flying": "steering", "hanging": "dangling", "hiking": "trekking", "hitting": "striking",
    "holding": "grasping", "hugging": "embracing", "jumping": "leaping", "kicking": "shooting", "kissing": "smooching",
    "lifting": "raising", "lying": "resting", "paddling": "canoeing", "performing": "doing", "playing": "enjoying",
    "practicing": "doing", "pulling": "dragging", "racing": "speeding", "reading": "studying", "riding": "using",
    "rollerskating": "gliding", "rowing": "propelling", "running": "sprinting", "sailing": "gliding",
    "shaking": "drying", "shooting": "aiming", "singing": "performing", "sitting": "seated", "skating": "gliding",
    "skiing": "gliding", "sliding": "slipping", "standing": "upright", "surfing": "gliding", "swimming": "floating",
    "swinging": "whirling", "taking": "making", "talking": "chatting", "throwing": "hurling", "twirling": "spinning",
    "vaulting": "clearing", "walking": "strolling", "wrestling": "tackling",
}  # fmt: skip
"""Of each verb of the test photographs that has one, a verb that means nearly the same."""


def wordings(fact: Fact) -> dict[str, str]:
    """Word a fact in four other ways: by a kind of its subject, another verb, a compound, and a noun for who does it.

    `<person, riding, surfboard>` becomes "man riding surfboard", "person travelling on surfboard", "surfboard riding"
    and "surfboard rider". Attributes come before the noun: "black dog".
    """
    subject, predicate, thing = fact.units
    kind = KINDS.get(subject, subject)
    if predicate is None:
        return {"kind": kind}
    verb, *rest = predicate.split()
    if not verb.endswith("ing"):
        return {"kind": f"{predicate} {kind}", "compound": f"{predicate} {subject}"}
    tail = " ".join(filter(None, [*rest, thing]))
    front = thing or " ".join(rest)
    return {
        "kind": f"{kind} {predicate} {thing or ''}".strip(),
        "verb": f"{subject} {VERBS.get(verb, verb)} {tail}".strip(),
        "compound": f"{front} {verb}".strip() if front else f"{verb} {subject}",
        "agent": f"{front} {agent(verb)}".strip(),
    }


def agent(verb: str) -> str:
    """The noun for who does it: `riding`, a `rider`; `carrying`, a `carrier`."""
    stem = verb.removesuffix("ing")
    return f"{stem[:-1]}ier" if stem.endswith("y") and stem[-2:-1] not in "aeiou" else f"{stem}er"
