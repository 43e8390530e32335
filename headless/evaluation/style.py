"""How the report looks: on light and dark screens, and on paper."""

STYLE = """\
:root {
  color-scheme: light dark;
  --paper: #fbfbfa; --ink: #1b1b1b; --faint: #5c5c5c; --line: #d5d5d2; --field: #efefec;
  --good: #1b6e38; --bad: #a8322a; --warn: #7a5200;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #1e1f20; --ink: #e8e8e6; --faint: #a9a9a6; --line: #444648; --field: #2a2b2d;
    --good: #7fcf95; --bad: #f0948c; --warn: #e6bd6a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1160px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 1.7em; line-height: 1.25; margin: 0 0 .3em; overflow-wrap: anywhere; }
h2 { font-size: 1.25em; margin: 1.8em 0 .5em; overflow-wrap: anywhere; }
h3 { font-size: 1em; margin: 1em 0 .4em; overflow-wrap: anywhere; }
h2 small, h3 small, dt small, th small, td small, dd small {
  font-weight: normal; color: var(--faint);
}
.lead { font-size: 1.08em; padding-left: 1.2em; }
.lead li { margin: .3em 0; }
.note { color: var(--faint); font-size: .9em; max-width: 75ch; }
.warning { border-left: 4px solid var(--warn); padding: .3em .8em; background: var(--field); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .4em .9em .4em 0; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); font-weight: normal; }
thead th { font-weight: 600; }
th[scope=row], .text { text-align: left; }
td.text { overflow-wrap: anywhere; }
td:not(.text), th[scope=row] { white-space: nowrap; }
.means th, .means td { padding-right: 1.1em; }
.means th { font-size: .92em; }
.group th { padding-top: 1.1em; }
.better { color: var(--good); font-weight: 600; }
.worse { color: var(--bad); font-weight: 600; }
.plot { width: 100%; height: auto; border: 1px solid var(--line); background: #fff; }
.row { display: flex; flex-wrap: wrap; gap: 12px; }
figure { margin: 0; flex: 0 1 256px; min-width: 90px; }
figure img, .empty { width: 100%; display: block; background: var(--field); }
.empty { aspect-ratio: 1; display: grid; place-items: center; color: var(--faint); }
figcaption { font-size: .82em; line-height: 1.35; color: var(--faint); margin-top: 4px;
  overflow-wrap: anywhere; }
figcaption b { color: var(--ink); }
.names { font-size: .9em; overflow-wrap: anywhere; }
dt { font-weight: 600; margin-top: .7em; }
dd { margin: 0; max-width: 80ch; }
@media print {
  :root {
    color-scheme: light;
    --paper: #fff; --ink: #000; --faint: #444; --line: #bbb; --field: #f3f3f3;
    --good: #14562b; --bad: #8a241d; --warn: #5e3f00;
  }
  body { font-size: 11px; }
  main { max-width: none; padding: 0; }
  .row { flex-wrap: nowrap; }
  .case, table, .plot { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""
