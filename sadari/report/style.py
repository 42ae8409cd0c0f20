"""How the report looks, on screen and on paper, in light and in dark, in the colours of a ladder."""

from __future__ import annotations

FONTS = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Pretendard", "Noto Sans KR", '
    '"Noto Sans CJK KR", "Apple SD Gothic Neo", "Malgun Gothic", "NanumGothic", sans-serif'
)
MONO = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "NanumGothicCoding", monospace'

LIGHT = """
  --paper: #fbf8f1; --card: #fffdf8; --ink: #2b2620; --soft: #6b6255; --line: #e4dccb;
  --rail: #b9812b; --plank: #f6e6c3; --answer: #f3bd5b; --word: #33240a; --dot: #8a5a10;
  --mute: #8d8474; --ground: #8a9b6b; --warn: #fbe9d2; --warn-line: #d08a3c; --other: #2f6f8f;
"""
DARK = """
  --paper: #191714; --card: #211e1a; --ink: #f1eadd; --soft: #b3a998; --line: #3a342b;
  --rail: #a87424; --plank: #4a3b20; --answer: #dda447; --word: #f3e7cf; --dot: #edbb62;
  --mute: #968b7a; --ground: #8fa372; --warn: #3a2c18; --warn-line: #b9812b; --other: #7fbbd8;
"""

PAGE = f"""
:root {{ color-scheme: light dark; {LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
* {{ box-sizing: border-box }}
html {{ -webkit-text-size-adjust: 100% }}
body {{ margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 {FONTS} }}
:lang(ko) {{ word-break: keep-all }}
main {{ max-width: 1000px; margin: 0 auto; padding: 32px 24px 64px }}
h1 {{ font-size: clamp(30px, 6.2vw, 48px); line-height: 1.15; letter-spacing: -.02em; margin: .1em 0 .35em;
  text-wrap: balance }}
h2 {{ font-size: 22px; letter-spacing: -.01em; margin: 56px 0 6px }}
h3 {{ font-size: 16px; margin: 26px 0 4px }}
p {{ margin: .4em 0; max-width: 76ch }}
code, pre {{ font: 13.5px/1.5 {MONO} }}
.kicker {{ color: var(--soft); font-size: 14px; overflow-wrap: anywhere }}
.lead {{ font-size: clamp(17px, 2.2vw, 20px); line-height: 1.5 }}
.soft, .under, figcaption {{ color: var(--soft); font-size: 14px }}
.pill {{ display: inline-block; background: var(--answer); color: #2a1d06; border-radius: 99px;
  padding: 0 9px; font-size: 12.5px; font-weight: 600 }}
"""

LADDER = """
.ladder { margin: 24px 0 0; padding: 0; list-style: none }
.below { margin-top: 8px }
.step, .axis { display: grid; grid-template-columns: 150px 1fr 120px; column-gap: 16px; align-items: center }
.plank { align-self: stretch; display: flex; align-items: center; min-height: 50px;
  border: solid var(--rail); border-width: 0 5px }
.plank b { flex: 1; margin: 0 -2px; padding: 5px 4px; text-align: center; font-weight: 500; font-size: 15px;
  line-height: 1.25; background: var(--plank); color: var(--word); border-radius: 3px;
  overflow-wrap: anywhere }
.plank .pill { display: block; background: none; padding: 0; font-size: 12px; color: inherit }
.chosen .plank b { background: var(--answer); color: #2a1d06; font-weight: 700 }
.track { position: relative; align-self: stretch;
  background: linear-gradient(var(--line), var(--line)) center / 100% 1px no-repeat }
.track i { position: absolute; top: 50% }
.track .guide { top: 0; bottom: 0; border-left: 1px dashed var(--dot); opacity: .55 }
.bar { height: 6px; margin-top: -3px; border-radius: 3px; background: var(--mute); opacity: .4;
  min-width: 2px }
.dot { width: 13px; height: 13px; margin: -6.5px 0 0 -6.5px; border-radius: 50%; background: var(--mute) }
.chosen .bar { background: var(--dot); opacity: .5 }
.chosen .dot { background: var(--dot); width: 17px; height: 17px; margin: -8.5px 0 0 -8.5px }
.score { font-variant-numeric: tabular-nums; line-height: 1.25; font-size: 17px }
.score small { display: block; color: var(--soft); font-size: 12.5px }
.chosen .score { font-weight: 700 }
.chosen .score small { font-weight: 400 }
.earth { border-top: 4px solid var(--ground); border-radius: 2px }
.outside .plank { border-color: transparent }
.outside .plank b { background: none; border: 1px dashed var(--mute); color: var(--soft); font-size: 13.5px }
.axis { color: var(--soft); font-size: 12.5px; margin: 2px 0 14px }
.axis span { display: flex; justify-content: space-between }
"""

TABLES = """
table { border-collapse: collapse; width: 100%; margin: 12px 0 4px; font-size: 15px;
  font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: 9px 10px; border-bottom: 1px solid var(--line); vertical-align: top }
th:first-child { text-align: left }
thead th { color: var(--soft); font-size: 13px; line-height: 1.3; font-weight: 600; vertical-align: bottom;
  border-bottom-width: 2px }
td span { white-space: nowrap }
td small { display: block; color: var(--soft); font-size: 12.5px; line-height: 1.45 }
tr.chosen > * { background: color-mix(in srgb, var(--answer) 22%, transparent) }
tr.outside th { font-weight: 400; color: var(--soft) }
"""

REST = """
.pictures { columns: 400px 2; column-gap: 18px; margin: 18px 0 0 }
figure { margin: 0 0 18px; padding: 16px 16px 14px; break-inside: avoid;
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; min-width: 0 }
figure h3 { margin: 0 0 4px; line-height: 1.4 }
figure p { font-size: 15px; line-height: 1.5; margin: 0 0 8px }
figure svg { display: block; width: 100%; height: auto }
/* drawings bring their own light ground */
.sheet { background: #fff; border-radius: 8px; padding: 8px }
figcaption { margin-top: 8px; line-height: 1.5 }
svg.own text { font-family: inherit; fill: var(--soft); font-size: 12px }
svg.own .label { fill: var(--ink); font-size: 12.5px }
svg.own .grid { stroke: var(--line) }
svg.own .lead { stroke: var(--mute); stroke-width: .7; opacity: .6 }
.strip { display: flex; flex-wrap: wrap; gap: 10px; margin: 22px 0 8px }
.strip figure { margin: 0; padding: 8px; text-align: center; max-width: 100% }
.strip div { display: flex; flex-wrap: wrap; gap: 4px; justify-content: center }
.strip img { display: block; width: 56px; height: 56px; border-radius: 4px; background: var(--line) }
.strip img.pixels { image-rendering: pixelated }
.strip img.right { outline: 3px solid var(--rail) }
.strip figcaption { max-width: 232px; margin: 5px auto 0; font-size: 13px; line-height: 1.35;
  color: var(--ink); overflow-wrap: anywhere }
.strip.wide { display: grid; grid-template-columns: repeat(auto-fill, minmax(148px, 1fr)) }
.strip.wide img { width: 96px; height: 96px }
.strip.wide small { display: block; color: var(--soft); font-size: 12px }
ul.notes { list-style: none; padding: 0; margin: 10px 0 }
ul.notes li { padding: 8px 12px; border-left: 4px solid var(--line); background: var(--card); margin: 8px 0;
  border-radius: 0 8px 8px 0; overflow-wrap: anywhere }
ul.notes li.warning { border-color: var(--warn-line); background: var(--warn) }
dl { display: grid; grid-template-columns: minmax(96px, 170px) 1fr; gap: 8px 18px; margin: 12px 0;
  font-size: 15px }
dt { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 10px 12px; margin: 8px 0 }
"""

PHONE = """
@media (max-width: 700px) {
  main { padding: 20px 16px 48px }
  h2 { margin-top: 44px }
  .step, .axis { grid-template-columns: 92px 1fr 88px; column-gap: 10px }
  thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden }
  table, tbody, tr, td, tbody th { display: block; width: 100% }
  tr { border: 1px solid var(--line); border-radius: 10px; margin: 10px 0; background: var(--card);
    overflow: hidden }
  tbody th { font-size: 16px }
  td { display: flex; justify-content: space-between; gap: 16px; padding: 6px 10px; border: 0 }
  td::before { content: attr(data-name); color: var(--soft); font-size: 13.5px; text-align: left }
  td.none { display: none }
}
@media (max-width: 560px) {
  dl { grid-template-columns: 1fr; gap: 0 }
  dd { margin-bottom: 10px }
}
"""

PAPER = f"""
@media print {{
  :root {{ color-scheme: light; {LIGHT} --paper: #fff; --card: #fff }}
  body {{ font-size: 11pt }}
  main {{ max-width: none; padding: 0 }}
  * {{ -webkit-print-color-adjust: exact; print-color-adjust: exact }}
  h2, h3 {{ break-after: avoid }}
  figure, tr, .step, ul.notes li {{ break-inside: avoid }}
}}
"""

CSS = PAGE + LADDER + TABLES + REST + PHONE + PAPER
