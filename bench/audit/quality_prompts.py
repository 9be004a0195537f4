"""What quality.py and tasks.py ask, and under which marks."""

import random

import factory

SETTINGS = {
    "none": None,
    "red-green δ 1": dict(kind="red-green", window=1, gamma=0.25, delta=1.0),
    "red-green δ 2": dict(kind="red-green", window=1, gamma=0.25, delta=2.0),
    "red-green δ 4": dict(kind="red-green", window=1, gamma=0.25, delta=4.0),
    "gumbel": dict(kind="gumbel", window=4),
    "tournament": dict(kind="tournament", window=4, layers=30),
}
THEMES = ["a lighthouse keeper", "a lost dog", "a winter market", "two sisters and a boat", "a clockmaker", "a night train",
          "an old library", "a mountain village", "a musician in a storm", "a garden behind a wall", "a baker's apprentice",
          "a letter that came too late", "a journey across a desert", "a school play", "a broken bridge", "a fisherman's son"]
CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Germany": "Berlin", "Egypt": "Cairo",
            "Greece": "Athens", "Russia": "Moscow", "China": "Beijing", "Portugal": "Lisbon", "Austria": "Vienna",
            "Poland": "Warsaw", "Ireland": "Dublin", "Norway": "Oslo", "Sweden": "Stockholm", "Cuba": "Havana",
            "Peru": "Lima", "Kenya": "Nairobi", "Iraq": "Baghdad", "India": "Delhi", "Hungary": "Budapest",
            "Finland": "Helsinki", "Denmark": "Copenhagen", "Belgium": "Brussels", "Argentina": "Buenos Aires",
            "Canada": "Ottawa", "Australia": "Canberra", "Turkey": "Ankara", "Iran": "Tehran", "Thailand": "Bangkok"}


def tasks():
    """Questions with one right answer: capitals, both ways round, and sums; in a fixed random order."""
    out = [{"id": f"capital-{c}", "prompt": f"What is the capital of {c}? Answer in one sentence.", "metadata": {"answer": a}}
           for c, a in CAPITALS.items()]
    rng = random.Random(5)
    out += [{"id": f"city-{c}", "prompt": f"{a} is the capital of which country? Answer in one sentence.",
             "metadata": {"answer": c}} for c, a in CAPITALS.items()]
    for i in range(60):
        a, b = rng.randrange(2, 10), rng.randrange(2, 10)
        out.append({"id": f"sum-{i}", "prompt": f"What is {a} + {b}? (Question {i + 1}.) Answer in one sentence.",
                    "metadata": {"answer": str(a + b)}})
    random.Random(6).shuffle(out)
    return out


def folder_of(folder, name):
    """Of a setting's answers, made."""
    where = folder / name.replace(" ", "-").replace("δ", "d")
    where.mkdir(exist_ok=True)
    return where


def plant_options(where, scheme):
    """What `serve` needs to mark its answers so; the plant is made once."""
    if not scheme:
        return []
    plant = where / "plant"
    if not plant.exists():
        options = ["--gamma", scheme["gamma"], "--delta", scheme["delta"]] if scheme["kind"] == "red-green" else \
            ["--layers", scheme["layers"]] if scheme["kind"] == "tournament" else []
        factory.retort("audit", "plant", plant, "--secret", where / "secret", "--twins", 0, "--watermark", scheme["kind"],
                       "--window", scheme["window"], *options, "-q", cwd=where)
    return ["--plant", plant]
