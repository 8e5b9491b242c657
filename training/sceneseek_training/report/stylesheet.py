"""The page's style: one column of text, tables that scroll, colours by role on light and on dark."""

from __future__ import annotations

from sceneseek_training.report.palette import COLOURS

_RULES = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 80rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 3rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--rule); }
p, ul, dl { max-width: 46rem; margin: .75rem 0; }
ul { padding-left: 1.25rem; }
a { color: var(--blue); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: 0; max-width: none; list-style: none;
  font-size: .9rem; }
dl { font-size: .9rem; }
@media (min-width: 40rem) {
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; }
}
dt { font-weight: 600; }
dd { margin: 0 0 .4rem; color: var(--quiet); }
.table { margin: 1.5rem 0; }
.table h3, summary { font-size: 1rem; font-weight: 600; margin: 0 0 .5rem; }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 6px; max-width: max-content; }
table { border-collapse: collapse; font-size: .875rem; line-height: 1.35; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .55rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--rule); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { vertical-align: bottom; color: var(--quiet); background: var(--panel); font-weight: 600; max-width: 8rem; }
.word { text-align: left; }
tbody th { font-weight: 600; background: var(--page); }
tbody td.word { min-width: 9rem; }
small { display: block; color: var(--quiet); font-weight: 400; font-size: .75rem; white-space: nowrap; }
th small { white-space: normal; max-width: 15rem; }
tbody th { min-width: 8rem; max-width: 15rem; overflow-wrap: anywhere; }
strong { font-weight: 750; border-bottom: 2px solid var(--blue); }
.marked > * { background: var(--mark); }
.mark { font-size: .7rem; font-weight: 600; padding: .05rem .4rem; margin-left: .35rem; border-radius: 1rem;
  background: var(--blue); color: var(--page); white-space: nowrap; }
tr > :first-child { position: sticky; left: 0; }
figure { margin: 1.25rem 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem 1.5rem; }
.plots > div { max-width: 30rem; }
.plots h3 { font-size: 1rem; margin: 0; }
.plots svg { display: block; width: 100%; height: auto; overflow: visible; }
.plots svg * { stroke-linejoin: round; }
.plots svg text { font-family: inherit; }
figcaption { max-width: 46rem; margin-top: .5rem; color: var(--quiet); font-size: .9rem; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--quiet); font-weight: 400; font-size: .9rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: .75rem;
  padding: 0; max-width: none; list-style: none; }
.cards li { display: flex; gap: .9rem; padding: .75rem; border: 1px solid var(--rule); border-radius: 6px;
  background: var(--panel); break-inside: avoid; }
.thumbnail { flex: 0 0 8rem; min-width: 0; }
.thumbnail img { display: block; max-width: 100%; max-height: 10rem; border-radius: 3px; }
.thumbnail span { display: block; padding: 1rem .5rem; border: 1px dashed var(--grey); border-radius: 3px;
  color: var(--quiet); font-size: .8rem; }
.cards .pair { flex: 1; min-width: 0; }
.cards p { margin: 0 0 .4rem; line-height: 1.35; overflow-wrap: anywhere; }
.cards .name { color: var(--quiet); font-size: .75rem; margin: .4rem 0 0; }
.cards dl { display: grid; grid-template-columns: 1fr max-content; gap: 0 .75rem; margin: 0; font-size: .85rem;
  font-variant-numeric: tabular-nums; }
.cards dt { font-weight: 400; color: var(--quiet); }
.cards dd { margin: 0; color: inherit; }
.tree, .tree ul { list-style: none; max-width: none; }
.tree { padding: 0; font-size: .9rem; overflow-wrap: anywhere; }
.tree ul { margin: 0; padding-left: 1.1rem; border-left: 1px solid var(--rule); }
.tree b { font-weight: 600; }
@media print {
  @page { size: A4 landscape; margin: 12mm; }
  html { font-size: 11px; }
  body { max-width: none; padding: 0; }
  nav, details:not([open]) { display: none; }
  h1, h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; border: 0; }
  th, td { padding: .25rem .4rem; }
  tr, figure, .plots > div { break-inside: avoid; }
  .plots { grid-template-columns: repeat(3, 1fr); }
  .marked > *, .mark { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def stylesheet() -> str:
    """The content of the page's style element. Paper is light, whatever the reader's screen prefers."""
    light = _variables({role: colour.light for role, colour in COLOURS.items()})
    dark = _variables({role: colour.dark for role, colour in COLOURS.items()})
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}{_RULES}"
    )


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{role}: {colour};" for role, colour in colours.items())
