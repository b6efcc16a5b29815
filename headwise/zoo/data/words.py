"""The words of the language model's tasks. Each is one token of the zoo's tokenizer with its leading space."""

from __future__ import annotations

VERSION = 1

NAMES = [
    "John",
    "Mary",
    "Tom",
    "James",
    "Dan",
    "Sarah",
    "Anna",
    "Paul",
    "Mark",
    "Lisa",
    "Peter",
    "Jane",
    "Alice",
    "Bob",
    "Kate",
    "Luke",
    "Emma",
    "Jack",
    "Rose",
    "Sam",
    "Amy",
    "Max",
    "Ruth",
    "Adam",
    "Lucy",
    "Henry",
    "Laura",
    "Simon",
    "Helen",
    "David",
]
PLACES = [
    "store",
    "park",
    "school",
    "office",
    "garden",
    "kitchen",
    "market",
    "library",
    "station",
    "beach",
    "hotel",
    "museum",
]
GIFTS = ["book", "ring", "drink", "ball", "key", "cup", "pen", "hat", "box", "phone", "bag", "map"]
OBJECTS = [
    "pencil",
    "notebook",
    "pen",
    "cup",
    "plate",
    "jug",
    "mug",
    "puzzle",
    "textbook",
    "leash",
    "necklace",
    "bracelet",
    "bottle",
    "ball",
    "envelope",
    "lighter",
    "bowl",
]
COLORS = ["red", "orange", "yellow", "green", "blue", "purple", "brown", "black"]
SURFACES = ["table", "desk", "floor"]
CATEGORIES = {
    "fruit": ["apple", "banana", "cherry", "grape", "lemon", "peach"],
    "animal": ["dog", "cat", "horse", "cow", "lion", "sheep"],
    "color": ["red", "green", "blue", "yellow", "purple", "black"],
    "tool": ["hammer", "saw", "drill", "axe", "knife", "wrench"],
    "vehicle": ["car", "bus", "train", "truck", "boat", "plane"],
    "metal": ["iron", "gold", "copper", "tin", "zinc", "steel"],
}
MEMBERS = {word: category for category, words in CATEGORIES.items() for word in words}
LETTERS = "ABCD"
PLAIN = sorted({*MEMBERS, *PLACES, *GIFTS, *OBJECTS, *COLORS})
"""Lower-case words without a role: recall and copying draw from them."""


def article(word: str) -> str:
    """`a` or `an`, by the first letter.

    Example:
        >>> article("envelope"), article("cup")
        ('an', 'a')
    """
    return "an" if word[0] in "aeiou" else "a"


def task_words() -> list[str]:
    """Every word that must be one token after a space, sorted."""
    titled = [color.title() for color in COLORS]
    return sorted({*NAMES, *PLAIN, *SURFACES, *CATEGORIES, *LETTERS, *titled})
