"""The little text the tokenizers are trained on: English, Chinese, code, and words put together from parts."""

ENGLISH = """
The eye of an animal is a small instrument. Light comes in through a clear window, is bent by a lens and falls on a
layer of cells, and those cells say nothing about pictures: they only say how bright it was, and where. Everything
else is worked out later. A jumping spider has eight eyes, and a scallop has about two hundred. An ocellus, the small
simple eye of an insect, tells up from down and day from night, which is often enough to fly straight.
What do you see in this picture? Describe it in one sentence. How many objects are there, and what colour are they?
I don't know, but I'll look again; we've seen it before, they're not sure it's right, and he'd say you can't tell.
Please read the text on the sign, then answer with the number only. The first image shows a red square on a blue
background; the second image shows a green circle and a yellow line. Which of the two is larger? It isn't clear.
In the video a ball moves from the left to the right, stops for 1.5 seconds, and then it falls. Is there a person?
A kitchen table, a window, a chair, three cups, a bottle of water, an open book, a cat asleep on the warm stones.
On 12 March 2024 at 09:45 the train left platform 7; it was 3 minutes late, and there were 250 people on it.
Coordinates are given from 0 to 1000. Answer in JSON. You are a helpful assistant. Think about it step by step.
The quick brown fox jumps over the lazy dog. Sphinx of black quartz, judge my vow! Pack my box with five dozen jugs.
"""

CHINESE = """
眼睛是动物的一个小小的仪器。光线穿过透明的窗口，被晶状体折射，落在一层细胞上。这张图片里有什么？请用一句话描述。
图中有一个红色的方块和一个绿色的圆形，背景是蓝色的。左边的物体比右边的大吗？我不知道，让我再看一看。
请读出牌子上的文字，然后只回答数字。视频里有一个球从左向右移动，停了一会儿，然后掉了下来。今天天气很好，我们去看海。
日本語の文も少し。写真には何が写っていますか？赤い四角と緑の丸です。ありがとうございます。안녕하세요, 그림을 봅시다.
"""

CODE = """
fn main() {
    let mut total = 0usize;
    for (index, value) in values.iter().enumerate() {
        if value.is_some() { total += index * 2; }
    }
    println!("{total}");
}
def area(box):
    x0, y0, x1, y1 = box
    return max(0, x1 - x0) * max(0, y1 - y0)

{"name": "get_weather", "arguments": {"city": "Paris", "unit": "celsius"}}
[{"bbox_2d": [120, 64, 480, 512], "label": "cat"}]
<tools> </tools> https://example.org/path?query=1&page=2 # heading == != <= >= => -> :: && || ++ += -= /* */ // \\n
class Point(object):\r\n\tpass\r\n\r\n
    return self.x ** 2 + self.y ** 2    # spaces   and    more spaces
"""

ACCENTS = """
Café naïve façade, Škoda, Łódź, Übergröße, señor, ça va, œuvre, Ελληνικά γράμματα, Русский текст, العربية, हिन्दी, ไทย.
Emoji: 🙂 👩‍🚀 🏳️‍🌈 🎨 🖼️ 👍🏽. Maths: ∑ ∫ √2 ≈ 1.414, α + β ≤ γ, 10⁻³ m², ½ ¾.
"""

_HEADS = "un re over under out inter trans pre sub super photo micro tele auto multi semi".split()
_ROOTS = ("light scan form pict graph scope sign mark sight view glass lens frame line grid print colour shade draw "
          "trace stone water fire wind leaf wood field road bridge tower house window door market letter paper").split()
_TAILS = "s ed er ing ful less able ly ness ment ist ous ation ward".split()


def made_words() -> str:
    """About three thousand plausible words, so that the largest vocabulary has enough to merge."""
    lines = []
    for i, root in enumerate(_ROOTS):
        for j, tail in enumerate(_TAILS):
            lines.append(f"{root}{tail}")
            if (i + j) % 4:
                lines.append(f"{_HEADS[(i * 3 + j) % len(_HEADS)]}{root}{tail}")
            if (i + j) % 3 == 1:
                lines.append(f"{root}{_ROOTS[(i * 7 + j * 5) % len(_ROOTS)]}{tail}".capitalize())
        for k, other in enumerate(_ROOTS):
            if i != k:
                lines.append(f"{root}{other}")
    return " ".join(lines)


def training_text() -> str:
    return "\n".join([ENGLISH * 3, CHINESE * 3, CODE * 2, ACCENTS * 2, made_words()])
