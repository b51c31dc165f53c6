// Long work: its progress stands under the head of the page, never over photos, and stays when the page is read again.
import { $, call, counted, make, sentence } from "./core.js";
import { go } from "./address.js";

const PAUSE = 400;
const DOING = { teach: "Learning", undo: "Undoing", export: "Copying into", duplicates: "Looking for near-duplicates among" };
let finished = () => {};
export function onFinished(then) { finished = then; }

// Start work by a route, or a call, and follow it; a refusal is thrown.
export async function start(route, options = { method: "POST" }) {
  follow(typeof options === "function" ? await options() : await call(route, options));
}

export async function followAll() {
  for (const job of await call("/jobs").catch(() => [])) if (job.state === "waiting" || job.state === "running") follow(job);
}

async function follow(job) {
  const text = make("span"), bar = make("progress", { max: 1 });
  bar.setAttribute("aria-label", "Progress");
  const line = make("p", { role: "status" }, text, bar);
  $("work").hidden = false;
  $("work").append(line);
  let now = job;
  while (now.state === "waiting" || now.state === "running") {
    text.textContent = `${now.state === "waiting" ? "Waiting: " : ""}${DOING[now.kind]} ${now.about}`;
    if (now.progress) { bar.max = now.progress.total || 1; bar.value = now.progress.done; }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    now = await call(`/jobs/${job.id}`).catch((error) => ({ ...job, state: "failed", error: error.message }));
  }
  finish(now, line, text, bar);
}

function finish(job, line, text, bar) {
  bar.remove();
  const close = make("button", { textContent: "OK", onclick: () => { line.remove(); $("work").hidden = !$("work").children.length; } });
  const failed = job.state === "failed";
  line.classList.toggle("failed", failed);
  text.textContent = failed ? sentence(job.error) : OUTCOMES[job.kind](job.result);
  line.append(...(failed ? [] : NEXT[job.kind]?.(job.result, close) ?? []), close);
  finished(job);
}

const words = (result) => result.fact.filter(Boolean).join(" ");
const OUTCOMES = {
  teach: (result) => `Learned “${words(result)}” from ${counted(result.photos, "photo")}.`,
  undo: (result) => `“${words(result)}” is undone.`,
  export: ({ folder, written, missing }) => `${counted(written.length, "photo")} written into ${folder}.` +
    (missing.length ? ` Missing: ${missing.join(", ")}.` : ""),
  duplicates: (result) => `${counted(result.groups, "group")} of near-duplicates.`,
};
const button = (textContent, close, then) => make("button", { textContent, onclick: () => { close.click(); then(); } });
const NEXT = {
  teach: (result, close) => [
    button("Show what it finds", close, () => go(new URLSearchParams({ q: result.fact.map((unit) => unit ?? "?").join(", ") }))),
    button("Undo", close, () => start("/undo").catch((error) => { $("error").textContent = error.message; })),
  ],
  duplicates: (_, close) => [button("Show them", close, () => go(new URLSearchParams({ view: "duplicates" })))],
};
