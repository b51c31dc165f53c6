"""Drawn scenes: the built-in data set, with facts of all three orders and no download.

A picture of a fact of order 1 shows its subject at rest, of order 2 in action, of order 3 in relation with an object;
individuals, colours, poses, sizes, places, hours and light are random, and background things are never units. A
training image has one row, the fact it was drawn for. A test image has a row for that fact and one for every other
chosen fact that it entails, `<S>` and `<S, P>` of `<S, P, O>`, since it shows them too and a search that finds it
is right.
"""

from tripletcl.scenes.compose import draw_scene
from tripletcl.scenes.relations import PREDICATES
from tripletcl.scenes.subjects import SUBJECTS
from tripletcl.scenes.things import THINGS
from tripletcl.scenes.vocabulary import all_facts, scene_facts
from tripletcl.scenes.write import write_scenes

__all__ = ["PREDICATES", "SUBJECTS", "THINGS", "all_facts", "draw_scene", "scene_facts", "write_scenes"]
