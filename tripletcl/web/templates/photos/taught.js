// What was taught, with what each lesson finds, and the way back.
import { $, call, counted, dayWritten, make, served } from "./core.js";
import { go } from "./address.js";
import { name } from "./answer.js";
import { facts } from "./photo.js";
import { start } from "./work.js";

export async function showTaught() {
  $("taught-error").textContent = "";
  document.title = `Taught: ${name()}`;
  try {
    const tasks = await call("/tasks"), lessons = tasks.filter((task) => task.name.startsWith("taught: ")).reverse();
    $("lessons").replaceChildren(...lessons.map((task, number) => {
      const isLast = number === 0 && tasks.at(-1).name === task.name && served.about?.may_teach;
      return lesson(task, isLast);
    }));
    if (!lessons.length) $("lessons").replaceChildren(make("li", { className: "quiet", textContent: "Nothing has been taught yet." }));
  } catch (error) {
    $("taught-error").textContent = error.message;
  }
}

function lesson(task, isLast) {
  const units = task.facts[0].replace(/^<|>$/g, ""), [date, time] = [task.learned.slice(0, 10), task.learned.slice(11, 16)];
  const known = task.map_now === null ? "" : ` · average precision ${task.map_now.toFixed(2)} on photos held out`;
  const text = make("div", {}, make("strong", { textContent: units.split(", ").filter((unit) => unit !== "?").join(" ") }),
    make("small", { textContent: `${dayWritten(date)}, ${time} · ${counted(task.images ?? 0, "photo")}${known}` }));
  const show = make("button", { textContent: "Show what it finds", onclick: () => go(new URLSearchParams({ q: units })) });
  return make("li", {}, text, show, isLast ? make("button", { id: "undo", textContent: "Undo", onclick: undo }) : null);
}

async function undo() {
  $("undo").disabled = true;
  $("taught-error").textContent = "";
  try { await start("/undo"); } catch (error) { $("taught-error").textContent = error.message; $("undo").disabled = false; }
}

export async function describeFile(file) {
  if (!file) return;
  const body = new FormData();
  body.append("photo", file);
  $("described").replaceChildren(make("li", { textContent: "Looking at it …" }));
  const items = await call("/describe?k=6", { method: "POST", body }).then((answer) => facts(answer.facts),
    (error) => [make("li", { className: "failed", textContent: error.message })]);
  $("described").replaceChildren(...items);
}
