#!/usr/bin/env python3
"""terminal.py TITLE FILE: what a terminal of 120 columns shows, from its bytes on standard input to a page of HTML in FILE; prints how
many rows that are. Colours only; standard library only."""
import html
import re
import sys
import textwrap

COLOURS = {"1": "font-weight:600", "2": "color:#8b949e", "31": "color:#ff7b72", "32": "color:#56d364", "33": "color:#e3b341"}

text = sys.stdin.read().replace("\r", "")
body, depth = [], 0
for part in re.split(r"(\x1b\[[0-9;]*[A-Za-z])", text):
    codes = re.fullmatch(r"\x1b\[([0-9;]*)m", part)
    if codes is None:
        body.append("" if part.startswith("\x1b") else html.escape(part))
    elif codes.group(1) in ("", "0"):
        body.append("</span>" * depth)
        depth = 0
    else:
        style = ";".join(COLOURS[code] for code in codes.group(1).split(";") if code in COLOURS)
        body.append(f'<span style="{style}">')
        depth += 1
page = f"""<!doctype html><meta charset="utf-8"><title>{html.escape(sys.argv[1])}</title>
<body style="margin:0;background:#0d1117;padding:18px 22px"><pre style="margin:0;white-space:pre-wrap;color:#e6edf3;font:14px/1.45 DejaVu Sans Mono,Menlo,monospace"
>{"".join(body)}{"</span>" * depth}</pre>"""
with open(sys.argv[2], "w", encoding="utf-8") as file:
    file.write(page)
# Whoever reads it on that page sees 122 columns, and longer lines broken between words.
plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
print(sum(max(1, len(textwrap.wrap(line, 122))) for line in plain.splitlines()))
