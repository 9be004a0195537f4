"""Twenty prompts of 5–500 tokens for the real teacher: prose, code, numbers, other languages, chat. Text of our own."""

ENGLISH = """The harbour office opened at six, an hour before the first ferry, and Marta was always there at ten to. She
liked the quiet: the ropes creaking, the gulls not yet quarrelling, the kettle beginning to sing behind the counter. On
the wall hung a chart of the bay on which three generations of clerks had pencilled what the printers left out, a sand
bank that moved, a rock called the Widow, the place where the ice lay longest in spring. Visitors asked whether the marks
were exact. "They are honest," she would answer, "which is better." That morning a stranger waited at the door with a
wooden case under his arm. He said that he measured tides for the university, that his instrument had been wrong for a
week, and that nobody could tell him why. Marta looked at the case, then at the sky, and put a second cup on the counter.
"Begin with the week before," she said. "Things are seldom wrong all at once." He told her about the float, the drum and
the ink, about the clock that he wound each evening, and about the small door through which the sea came in. She listened
as she listened to the radio, doing three other things and missing nothing. When he had finished she asked only one
question: who else had a key? There was a boy, he admitted, a careful boy, who swept the room on Fridays and had once
asked what would happen if the float were lighter. Marta poured the tea. "Then you have two instruments," she said, "and
one of them is curious." They walked out together along the mole, past the cold store and the net sheds, and by the time
the ferry sounded its horn they had agreed that the boy should be given a notebook, a ruler and a week of his own."""

CODE = '''import math


class Tide:
    """Sum of harmonic constituents; heights in metres, times in hours."""

    def __init__(self, mean, constituents):
        self.mean = mean
        self.constituents = list(constituents)

    def height(self, hour):
        total = self.mean
        for amplitude, speed, phase in self.constituents:
            total += amplitude * math.cos(math.radians(speed * hour - phase))
        return total

    def next_high(self, start, step=0.1):
        before, here = self.height(start), self.height(start + step)
        hour = start + step
        while not (before <= here > self.height(hour + step)):
            before, here, hour = here, self.height(hour + step), hour + step
        return hour, here


if __name__ == "__main__":
    bay = Tide(2.4, [(1.1, 28.984, 120.0), (0.35, 30.0, 155.0), (0.12, 15.041, 80.0)])
    for day in range(3):
        hour, height = bay.next_high(24.0 * day)
        print(f"day {day}: high water at {hour:6.2f} h, {height:.2f} m")
'''

CPP = """template <typename T>
std::optional<std::size_t> find_sorted(std::span<const T> values, const T& wanted) {
    std::size_t low = 0, high = values.size();
    while (low < high) {
        const std::size_t middle = low + (high - low) / 2;
        if (values[middle] < wanted) low = middle + 1;
        else high = middle;
    }
    if (low == values.size() || wanted < values[low]) return std::nullopt;
    return low;
}
"""

NUMBERS = "\n".join(f"{n}\t{n * n}\t{n**3}\t{n / 7:.6f}\t{(n * 7919) % 10007}" for n in range(1, 40))

LANGUAGES = """Le bateau part à six heures, mais la marée n'attend personne. Der Hafen schläft noch, und über dem Wasser
liegt dünner Nebel. El faro se apaga cuando amanece, y las gaviotas despiertan a todo el pueblo. Утром на пристани тихо,
только скрипят канаты. 港口在早晨很安静，只有海浪的声音。朝の港は静かで、波の音だけが聞こえる。아침 항구는 조용하다.
الميناء هادئ في الصباح. Η θάλασσα είναι ήρεμη σήμερα. Português: o mar está calmo, não há vento. Türkçe: liman sabahları
sessizdir. Tiếng Việt: bến cảng buổi sáng rất yên tĩnh. Zażółć gęślą jaźń. 🚢🌊 ½ × 3² ≠ ∑ — “quoted” …"""

JSON = (
    '{"station": "North Mole", "unit": "m", "readings": ['
    + ", ".join(
        f'{{"hour": {hour}, "height": {2.4 + 1.1 * ((hour * 5) % 12 - 6) / 6:.2f}, "ok": {str(hour % 5 != 0).lower()}}}'
        for hour in range(24)
    )
    + "]}"
)


def chat(*turns):
    roles = ("system", "user", "assistant", "user", "assistant", "user")
    first = 0 if turns[0] is not None else 1
    text = "".join(f"<|im_start|>{role}\n{turn}<|im_end|>\n" for role, turn in list(zip(roles, turns))[first:])
    return text + "<|im_start|>assistant\n"


SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

# name, text, tokens kept (None: all)
PROMPTS = [
    ("capital", "The capital of France is", 5),
    ("code_short", "def fibonacci(n):\n    if n <", 8),
    ("digits", "3.14159265358979", 12),
    ("spaces", "   \n\n\t  a  \n", None),
    ("languages_short", LANGUAGES, 16),
    ("english_20", ENGLISH, 20),
    ("chat_short", chat(SYSTEM, "What is two plus two?"), None),
    ("cpp_48", CPP, 48),
    ("chat_sentence", chat(SYSTEM, "Write one sentence about the sea."), None),
    ("numbers_64", NUMBERS, 64),
    ("english_77", ENGLISH, 77),
    ("json_96", JSON, 96),
    ("chat_rewrite", chat(SYSTEM, "Rewrite in one short sentence: " + ENGLISH[:420].replace("\n", " ")), None),
    ("code_128", CODE, 128),
    (
        "chat_turns",
        chat(
            "You answer briefly.",
            "Name a fruit.",
            "Apple.",
            "And a vegetable?",
            "Carrot.",
            "Which of the two grows on a tree, and why do you think so?",
        ),
        None,
    ),
    ("languages_200", LANGUAGES, 200),
    ("code_cpp_300", CODE + "\n" + CPP, 300),
    ("english_384", ENGLISH, 384),
    ("numbers_450", NUMBERS, 450),
    ("mixed_500", chat(SYSTEM, JSON + "\n\n" + CPP) + LANGUAGES + "\n" + ENGLISH, 500),
]
