"""The page's style sheet: the system's fonts, light and dark, a phone's width and paper."""

CSS = """
:root { color-scheme: light dark; --ink:#1f2431; --muted:#5b6473; --line:#dde1e8; --page:#fbfbfc; --card:#ffffff;
  --tint:#f1f4f9; --good:#14804a; --bad:#c62f3b; }
@media (prefers-color-scheme: dark) {
  :root { --ink:#e8ebf1; --muted:#a4adbb; --line:#2b323e; --page:#10141b; --card:#161b24; --tint:#1d2430;
    --good:#46c583; --bad:#ff7680; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  "Liberation Sans", sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
header p { max-width: 46rem; }
.title { color: var(--muted); margin: 0 0 .6rem; overflow-wrap: anywhere; }
h1 { font-size: clamp(1.45rem, 4.2vw, 2.3rem); line-height: 1.2; letter-spacing: -.015em; margin: 0 0 1rem;
  max-width: 24em; text-wrap: balance; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; letter-spacing: -.01em; margin: 3.2rem 0 .3rem; }
h2 + .card { margin-top: .8rem; }
h3 { font-size: 1.02rem; margin: 0; overflow-wrap: anywhere; }
p { margin: 0 0 .8rem; }
.card + .note { margin-top: .8rem; }
.note { color: var(--muted); font-size: .9rem; max-width: 46rem; text-wrap: pretty; }
.count { color: var(--muted); font-size: .9rem; margin-top: 1.2rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: separate; border-spacing: 0; width: 100%;
  font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { padding: .55rem .6rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { color: var(--muted); font-weight: 500; font-size: .82rem; line-height: 1.25; vertical-align: bottom; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { font-weight: 600; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 1rem; }
th:last-child, td:last-child { padding-right: 1rem; }
.compare th:first-child { position: sticky; left: 0; background: var(--card); z-index: 1; }
.dense { font-size: .84rem; }
.dense th, .dense td { padding: .45rem .32rem; }
.dense th:first-child { padding-left: .7rem; }
.dense th:last-child, .dense td:last-child { padding-right: .6rem; }
.dense thead th { font-size: .74rem; letter-spacing: -.01em; }
.dense td small { font-size: .7rem; letter-spacing: -.01em; }
td small { display: block; color: var(--muted); font-size: .78rem; font-weight: 400; white-space: nowrap; }
td, .compare td { white-space: nowrap; }
.facts td:first-child { white-space: normal; overflow-wrap: break-word; min-width: 9rem; }
.facts th:first-child { white-space: nowrap; }
.marks td, .marks thead th:not(:first-child) { text-align: center; padding-left: .15rem; padding-right: .15rem; }
.marks thead th { font-size: .7rem; }
.pairs td, .pairs th { white-space: normal; overflow-wrap: anywhere; }
.pairs th { text-align: left; width: 14rem; color: var(--muted); font-weight: 500; }
.pairs td { text-align: left; }
.swatch { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .5em; }
.grid { display: grid; gap: 1rem; margin-top: 1rem; }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); }
.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 170px), 1fr)); }
.narrow { grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); }
.grid > * { min-width: 0; }
.span { grid-column: 1 / -1; }
figure { margin: 0; }
.grid figure { padding: .6rem; }
.start { align-items: start; }
.small figure { padding: .35rem; }
.grid img { display: block; width: 100%; height: auto; }
.query { padding: 1rem; margin-top: 1rem; }
.query .task { color: var(--muted); font-weight: 400; margin-left: .5em; font-size: .9rem; }
.hits { display: grid; grid-template-columns: 8.5rem 1fr; gap: .3rem 1rem; align-items: center; margin-top: .8rem; }
.hits > * { min-width: 0; }
.who { font-weight: 600; line-height: 1.3; overflow-wrap: anywhere; }
.who small { display: block; color: var(--muted); font-weight: 400; }
.strip { display: flex; gap: .55rem; overflow-x: auto; padding: .2rem .1rem .4rem; }
.strip figure { flex: 0 1 104px; min-width: 88px; text-align: center;
  font-size: .8rem; font-variant-numeric: tabular-nums; line-height: 1.5; }
.strip img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 8px; }
.hit img { border: 3px solid var(--bad); }
.hit figcaption { color: var(--bad); }
.hit.good img { border-color: var(--good); }
.hit.good figcaption { color: var(--good); }
.scene { margin-top: 1rem; }
details { padding: .8rem 1rem; }
summary { cursor: pointer; font-weight: 600; }
.sequence { padding: 0; margin-top: 3.2rem; border-top: 1px solid var(--line); }
.sequence > summary { padding: 1rem 0 .4rem; }
.sequence > p { max-width: 46rem; }
.sequence h2 { display: inline; overflow-wrap: anywhere; }
.sequence section > h3 { margin: 2rem 0 .3rem; }
.sequence h3 + .card { margin-top: .6rem; }
pre { overflow-x: auto; background: var(--tint); border-radius: 8px; padding: .9rem 1rem; margin: .8rem 0 0;
  font-size: .86rem; line-height: 1.5;
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
@media (max-width: 640px) {
  main { padding: 1.5rem .9rem 3rem; }
  .hits { grid-template-columns: 1fr; gap: .15rem; }
  .hits .who { margin-top: .5rem; }
  .who small { display: inline; margin-left: .5em; }
  .pairs th { width: 8rem; }
}
@media print { .card { break-inside: avoid; } main { max-width: none; } }
"""
