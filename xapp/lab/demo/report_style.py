"""Style sheet of the report: light and dark, readable on a phone, printable."""

from __future__ import annotations

CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --page: #ffffff; --card: #f5f7f9;
  --line: #d8dee4; --grid: #d8dee4; --accent: #0072b2; --static: #b36b00; --good: #0b7a4b; --bad: #b3261e;
  --mobile: #0072b2; --drone: #c24f00; --car: #00855f; --fixed: #b0558a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #9aa4ae; --page: #14181c;
  --card: #1d2329;
  --line: #323a42; --grid: #323a42; --accent: #56b4e9; --static: #e69f00;
  --good: #4cc38a; --bad: #ff8a80;
  --mobile: #56b4e9; --drone: #f0894a; --car: #2bc596; --fixed: #e0a0c6; } }
* { box-sizing: border-box; }
body { margin: 0 auto;
  padding: 1.5rem 1rem 4rem; max-width: 58rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .4rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p, li { max-width: 46rem; }
.lead { font-size: 1.06rem; }
.soft, figcaption, small { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(15.5rem, 1fr)); gap: .8rem;
  margin: 1.4rem 0; }
.card { background: var(--card); border-radius: .6rem; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.55rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card span { display: block; font-weight: 600; }
.card small { display: block; line-height: 1.35; }
.good { color: var(--good); } .bad { color: var(--bad); }
.chart { overflow-x: auto; margin: .6rem 0; }
.chart svg { display: block; width: 100%; min-width: 36rem; height: auto; overflow: visible; }
svg * { stroke-linejoin: round; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.1rem; }
.phases { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1.1rem; }
figure { margin: 0; }
.phases figure { margin-bottom: .9rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; }
.pair img { width: 100%; height: auto; display: block; border-radius: 4px; background: var(--card); }
figcaption { font-size: .82rem; line-height: 1.35; margin-top: .3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.word, th.word { text-align: left; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .45em; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media print { body { max-width: none; } .chart svg { min-width: 0; } }
"""
