"""shrink.py FILE.png...: pictures of text need no more than 128 colours; a quarter of the bytes."""

import sys

from PIL import Image

for name in sys.argv[1:]:
    picture = Image.open(name).convert("RGB")
    picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(name, optimize=True)
