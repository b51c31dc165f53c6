"""How the page looks: the system's fonts, light and dark, on a desk and on a phone; and what happens on a click."""

from __future__ import annotations

from typing import Any

FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "Liberation Sans", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]

CSS = """
:root { --ink:#1f2431; --muted:#5b6473; --line:#dde1e8; --card:#ffffff; --tint:#f1f4f9; --good:#14804a; --bad:#c62f3b;
  --fill:11 79 181; --pale:#ffffff; --accent:#1257c9; }
.dark { --ink:#e8ebf1; --muted:#a4adbb; --line:#2b323e; --card:#161b24; --tint:#1d2430; --good:#46c583; --bad:#ff7680;
  --fill:103 166 255; --pale:#10141b; --accent:#5ea2ff; }

/* the frame */
.gradio-container { width:100% !important; max-width:1180px !important; margin:0 auto !important;
  overflow:visible !important; box-sizing:border-box; }
.main.fillable { padding:18px 24px 48px !important; max-width:none !important; box-sizing:border-box; }
main.contain > .column, .tabitem > .column { gap:12px; }
.column, .tabitem, .html-container { min-width:0; max-width:100%; }
.html-container { padding:0 !important; }
footer { display:none !important; }
.lead { color:var(--muted); margin:0; font-size:.92rem; overflow-wrap:anywhere; }
h1 { font-size:clamp(1.1rem,2.3vw,1.45rem) !important; line-height:1.25; letter-spacing:-.012em; margin:0 !important; }
#stage-bar { position:sticky; top:0; z-index:30; align-items:stretch; }
#units, #lesson { align-items:end; }
#examples { gap:.4rem; flex-wrap:wrap; }
#examples button, #more, #undo { flex:0 1 auto; width:auto; min-width:0; align-self:start; white-space:normal;
  overflow-wrap:anywhere; }
#more { align-self:center; }
#said:has(.progress-level) .html-container { min-height:84px; }

/* words */
.note { color:var(--muted); font-size:.92rem; margin:.2rem 0; overflow-wrap:anywhere; }
.error { color:var(--bad); font-weight:600; margin:.4rem 0; overflow-wrap:anywhere; }
.done { color:var(--good); font-weight:600; margin:.4rem 0; overflow-wrap:anywhere; }
.understood { margin:.2rem 0; overflow-wrap:anywhere; }
.empty { border:1.5px dashed var(--line); border-radius:10px; color:var(--muted); padding:2rem 1rem;
  text-align:center; }
.swatch { display:inline-block; width:.7em; height:.7em; border-radius:50%; margin-right:.45em; }
.dark .swatch, .dark .chart { filter:invert(.9) hue-rotate(180deg) brightness(1.15); }
b.good { color:var(--good); }

/* methods side by side */
.sides { display:grid; gap:1rem 1.6rem; }
.sides.of2 { grid-template-columns:1fr 1fr; }
.sides > * { min-width:0; }
.side h3 { font-size:1.05rem; margin:.1rem 0 .5rem; overflow-wrap:anywhere; }
.side h3 small { color:var(--muted); font-weight:400; margin-left:.35em; font-size:.88rem; }

/* photos */
.tiles { display:grid; grid-template-columns:repeat(auto-fill,minmax(104px,1fr)); gap:.55rem; }
.tile { margin:0; position:relative; text-align:center; font-size:.82rem; font-variant-numeric:tabular-nums; }
.tile .look { all:unset; display:block; cursor:zoom-in; width:100%; }
.tile img { display:block; width:100%; aspect-ratio:1; object-fit:cover; border-radius:9px; margin:0;
  border:3px solid transparent; box-sizing:border-box; background:var(--tint); }
.tile.good img { border-color:var(--good); }
.tile.bad img { border-color:var(--bad); }
.tile figcaption { color:var(--muted); line-height:27px; text-align:left; padding-left:3px; }
.tile.good figcaption { color:var(--good); }
.tile.bad figcaption { color:var(--bad); }
.look:focus-visible img, .pick:focus-visible, .go:focus-visible { outline:2px solid var(--accent);
  outline-offset:1px; }
.pick, .out { all:unset; position:absolute; right:0; width:24px; height:24px; border-radius:50%; cursor:pointer;
  text-align:center; line-height:24px; color:var(--muted); background:var(--tint); }
.pick { bottom:1px; }
.out { bottom:6px; right:6px; box-shadow:0 0 3px rgb(0 0 0 / .4); }
.pick::after { content:"+"; font-size:17px; font-weight:600; }
.pick:hover, .out:hover { color:var(--ink); }
.pick[aria-pressed=true] { background:var(--accent); color:#fff; }
.pick[aria-pressed=true]::after { content:"\\2713"; font-size:14px; }
#photo img { width:100%; height:100%; object-fit:contain; }

/* one photo */
dialog.look { border:1px solid var(--line); border-radius:14px; background:var(--card); color:var(--ink); padding:1rem;
  width:min(720px,94vw); max-height:92vh; margin:auto; }
dialog.look::backdrop { background:rgb(0 0 0 / .55); }
dialog.look > img { display:block; width:100%; max-height:42vh; object-fit:contain; border-radius:8px;
  background:var(--tint); margin:0; }
dialog.look h3 { overflow-wrap:anywhere; margin:.6rem 0 .1rem; font-size:1.02rem; }
dialog.look h3 .pick { position:static; display:inline-block; vertical-align:middle; margin-left:.4em; }
dialog .close { all:unset; position:absolute; top:12px; right:12px; width:34px; height:34px; border-radius:50%;
  background:var(--card); text-align:center; line-height:34px; font-size:22px; cursor:pointer;
  box-shadow:0 0 4px rgb(0 0 0 / .35); }

/* the facts of a photo */
.facts { list-style:none; padding:0 !important; margin:0; }
.facts li { position:relative; display:flex; justify-content:space-between; gap:.6rem; padding:.34rem .6rem;
  margin:.25rem 0; border-radius:7px; background:var(--tint); overflow:hidden; }
.facts .bar { position:absolute; inset:0 auto 0 0; background:rgb(var(--fill) / .17); }
.facts .fact { position:relative; overflow-wrap:anywhere; }
.facts .number { position:relative; font-variant-numeric:tabular-nums; color:var(--muted); }

/* pictures */
.cards { display:grid; gap:1rem; grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr)); margin-top:.6rem; }
#curve .cards { grid-template-columns:minmax(0,480px); }
.card { border:1px solid var(--line); border-radius:12px; background:var(--card); padding:.6rem; margin:0;
  min-width:0; }
.card img { display:block; width:100%; max-width:560px; height:auto; margin:0 auto; }

/* tables */
.scroll { overflow-x:auto; }
.matrix, .tasks { font-variant-numeric:tabular-nums; font-size:.93rem; width:100%; margin:0 !important;
  border:0 !important; border-collapse:separate !important; }
.matrix { border-spacing:3px !important; }
.tasks { border-spacing:0 !important; }
.matrix th, .matrix td, .tasks th, .tasks td { border:0 !important; padding:.3rem .4rem !important; text-align:center;
  background:none !important; line-height:1.4; }
.matrix thead th, .tasks thead th { color:var(--muted); font-weight:500; font-size:.84rem; }
.matrix th:first-child, .tasks th:first-child { text-align:left; white-space:nowrap; font-weight:500; }
.matrix td.cell { background:rgb(var(--fill) / var(--share)) !important; border-radius:6px; cursor:pointer; }
.matrix td.cell span { color:var(--ink); }
.matrix td.pale span { color:var(--pale); }
.matrix td.learned { box-shadow:inset 0 0 0 1.5px var(--ink); }
.matrix td[data-later] { opacity:.42; }
.matrix .go { all:unset; cursor:pointer; padding:.05rem .5rem; border-radius:6px; }
.matrix .here .go { background:var(--ink); color:var(--card); font-weight:600; }
.tasks td, .tasks th { border-bottom:1px solid var(--line) !important; text-align:right; white-space:nowrap; }
.tasks .what { text-align:left; white-space:normal; overflow-wrap:anywhere; }

@media (max-width:640px) {
  .main.fillable { padding:8px 12px 32px !important; }
  .sides.of2 { grid-template-columns:1fr; }
  .tiles { grid-template-columns:repeat(4,1fr); gap:.35rem; }
  .tile { font-size:.74rem; }
  .matrix, .tasks { font-size:.82rem; }
  .matrix { border-spacing:2px !important; }
  .matrix th, .matrix td, .tasks th, .tasks td { padding:.22rem .2rem !important; }
  .tasks .less { display:none; }
  #units .icon-wrap, #lesson .icon-wrap, #beside .icon-wrap { display:none; }
  #units .block, #lesson .block { padding:8px 5px; }
  #units .wrap-inner, #lesson .wrap-inner { padding:4px 6px; }
  #stage-bar .block { padding:7px 9px; }
  #stage-bar input[type=number] { min-width:0; width:2.6rem; }
  #examples { width:0; min-width:100%; flex-wrap:nowrap; overflow-x:auto; scrollbar-width:none; }
  #examples button { white-space:nowrap; flex:none; }
}
"""

ON_LOAD = """
() => document.addEventListener('keydown', event => {
  if (event.key === 'Tab' && event.target.matches('input[role=combobox]')) event.stopImmediatePropagation();
}, true)
"""
"""A dropdown that is left by Tab closes; Gradio would open its list again after it was left."""

PHOTO_CLICKS = """
element.addEventListener('click', event => {
  const button = event.target.closest('button, td.cell');
  if (!button) return;
  const photo = button.dataset.photo;
  if (button.classList.contains('pick')) {
    const picked = button.getAttribute('aria-pressed') !== 'true';
    const same = document.querySelectorAll(`.pick[data-photo="${photo}"]`);
    same.forEach(one => one.setAttribute('aria-pressed', picked));
    window.lastPick = {photo, picked};
    trigger('select', {});
  } else if (button.classList.contains('out')) {
    trigger('delete', {photo});
  } else if (button.classList.contains('look')) {
    trigger('click', {photo});
  } else if (button.dataset.stage) {
    trigger('select', {stage: Number(button.dataset.stage)});
  }
});
"""
"""Tells Python which photo was picked, taken out or looked at, and to which stage a click in a matrix goes."""

PICK = """\
(picked) => {
  const {photo, picked: on} = window.lastPick;
  const others = (picked || []).filter(key => key !== photo);
  return [on ? [...others, photo] : others];
}
"""
"""The keys of the photos picked, after a click on a photo's +."""

OPEN_DIALOG = (
    PHOTO_CLICKS
    + """
const shown = () => {
  const dialog = element.querySelector('dialog');
  if (dialog && !dialog.open) dialog.showModal();
};
watch('value', shown);
element.addEventListener('click', event => {
  const dialog = element.querySelector('dialog');
  if (dialog && (event.target === dialog || event.target.closest('.close'))) dialog.close();
});
"""
)
"""A dialog opens when Python sends one, and closes by its button or a click beside it."""


def theme() -> Any:
    """Gradio's theme with the system's fonts: its own would be fetched, or shipped."""
    import gradio as gr

    return gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=MONO)
