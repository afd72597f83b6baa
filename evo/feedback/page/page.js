"use strict";
// One item a screen. Each click is sent and saved at once, and what comes back is what is shown:
// the page keeps nothing but the annotator's name. Texts are only ever set as text.

const find = (id) => document.getElementById(id);
const LABEL_KEYS = "qeyuiopdfghjklvnm";  // none that means something else
const WORDS = { a: "A is better", b: "B is better", tie: "equally good", neither: "both bad" };
const KEPT = "evomix annotator";  // in this tab, so that a reload knows who one is

let screen = null;  // last one from the server
let editing = null;  // "correction" or "critique" while its editor is open
let busy = false;  // a key pressed meanwhile would apply to an item that is not shown yet

async function ask(action, more = {}) {
  if (busy) return false;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    const annotator = sessionStorage.getItem(KEPT);
    const item = screen && screen.item ? screen.item.id : null;
    const answer = await fetch(action, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ annotator, item, ...more }),
    });
    const reply = await answer.json();
    say(reply.error || "");
    if (reply.screen) show(reply.screen);
    return answer.ok;
  } catch {
    say("The server does not answer. What was saved is safe: start `evo feedback` again and open "
      + "the address that it prints.");
    return false;
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

function say(text) {
  find("message").textContent = text;
  find("message").hidden = !text;
}

function show(reply) {
  const before = screen && screen.item ? screen.item.id : null;
  screen = reply;
  const item = reply.item;
  const list = reply.judged;
  find("sign-in").hidden = true;
  find("reviewed").hidden = !list;
  find("judge").hidden = !item || Boolean(list);
  find("done").hidden = Boolean(item || list);
  find("review").hidden = Boolean(list);
  const { mine, all, items } = reply.progress;
  find("progress").textContent = `${mine} judged by you, ${all} of ${items} in all`;
  find("bar").max = Math.max(items, 1);
  find("bar").value = all;
  find("who").textContent = reply.annotator;
  find("undo").disabled = find("undo-last").disabled = !reply.can_undo;
  if (list) {
    showJudged(list);
    return;
  }
  if (!item) {
    find("done-title").focus();
    return;
  }
  const pair = item.drafts.length === 2;
  if (item.id !== before) {
    close();
    find("prompt").textContent = item.prompt;
    find("draft-a").textContent = item.drafts[0];
    find("draft-b").textContent = pair ? item.drafts[1] : "";
    for (const id of ["prompt", "draft-a", "draft-b"]) find(id).scrollTop = 0;
    window.scrollTo(0, 0);
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
  }
  find("one-title").textContent = pair ? "Draft A" : "Draft";
  find("drafts").classList.toggle("pair", pair);
  for (const id of ["two", "prefer-a", "tie", "neither"]) find(id).hidden = !pair;
  for (const id of ["single", "next"]) find(id).hidden = pair;
  find("judge").dataset.item = item.id;
  const said = item.said;
  if (pair) {
    for (const side of ["a", "b"]) press(find(`prefer-${side}`), said.preference === side);
    for (const side of ["tie", "neither"]) press(find(side), said.preference === side);
  }
  press(find("skip"), "skip" in said);
  showRatings(reply.criteria, said);
  const labels = [...new Set([...reply.labels, ...(said.labels || [])])];
  find("labels-field").hidden = !labels.length;
  fill(find("labels"), labels, (label, n) => [
    label, LABEL_KEYS[n] || "", (said.labels || []).includes(label), () => toggle(label)]);
  showWords(said);
}

function showRatings(criteria, said) {
  if (find("criteria").dataset.shown !== JSON.stringify(criteria)) {
    find("criteria").dataset.shown = JSON.stringify(criteria);
    find("criteria").replaceChildren(...criteria.map((one) => {
      const field = document.createElement("fieldset");
      const title = document.createElement("legend");
      const guideline = document.createElement("p");
      const row = document.createElement("div");
      title.textContent = one.name;
      guideline.textContent = one.guideline;
      guideline.className = "guideline";
      row.className = "row";
      field.append(title, guideline, row);
      return field;
    }));
  }
  find("overall").textContent = criteria.length ? "Overall" : "Rating";
  const rows = [...find("criteria").querySelectorAll(".row"), find("ratings")];
  kinds(criteria).forEach((kind, place) => fill(rows[place], [1, 2, 3, 4, 5], (n) => [
    String(n), "", said[kind] === n, () => rate(n, kind)]));
}

function kinds(criteria) {
  return [...criteria.map((one) => `rating/${one.name}`), "rating"];
}

function nextKind() {  // that a number key rates by: the first without a rating, else the last
  const every = kinds(screen.criteria);
  return every.find((kind) => !(kind in screen.item.said)) || "rating";
}

function showJudged(list) {
  find("judged").replaceChildren(...list.map((one) => {
    const entry = document.createElement("li");
    const parts = [["given", one.prompt], ...one.drafts.map((text) => ["draft", text])];
    for (const [kind, text] of parts) {
      const shown = document.createElement("p");
      shown.className = `text ${kind}`;
      shown.textContent = text;
      entry.append(shown);
    }
    const said = document.createElement("p");
    said.className = "said";
    said.textContent = Object.entries(one.said).map(([kind, value]) => {
      if (kind === "preference") return WORDS[value];
      return value === null ? kind : `${kind}: ${[value].flat().join(", ")}`;
    }).join("; ");
    const change = document.createElement("button");
    change.type = "button";
    change.textContent = "Change";
    change.addEventListener("click", () => ask("reopen", { item: one.id }));
    entry.append(said, change);
    return entry;
  }));
  window.scrollTo(0, 0);
  find("reviewed-title").focus();
}

function press(button, pressed) {
  button.setAttribute("aria-pressed", String(pressed));
}

function fill(row, values, describe) {
  const focused = [...row.children].findIndex((child) => child.matches(":focus-visible"));
  row.replaceChildren(...values.map((value, n) => {
    const [text, key, pressed, click] = describe(value, n);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    press(button, pressed);
    if (key) {
      const shown = document.createElement("kbd");
      shown.textContent = key;
      button.append(" ", shown);
    }
    button.addEventListener("click", click);
    return button;
  }));
  if (focused >= 0 && row.children[focused]) row.children[focused].focus();
}

function showWords(said) {
  const parts = [];
  for (const [kind, title] of [["correction", "Your correction"], ["critique", "What is wrong"]]) {
    if (!(kind in said)) continue;
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = title;
    text.textContent = said[kind];
    text.id = `said-${kind}`;
    parts.push(term, text);
  }
  find("words").replaceChildren(...parts);
  find("words").hidden = !parts.length;
}

const at = () => screen && !screen.judged && screen.item;
const single = () => at() && screen.item.drafts.length === 1;
const pair = () => at() && screen.item.drafts.length === 2;
const judge = (kind, value) => ask("judge", { kind, value });
const rate = (value, kind) => single() && judge(kind || nextKind(), value);
const prefer = (side) => pair() && judge("preference", side);
const skip = () => at() && judge("skip", null);
const undo = () => screen && !screen.judged && screen.can_undo && ask("undo");

function toggle(label) {
  if (!single()) return;
  const chosen = screen.item.said.labels || [];
  const left = chosen.filter((one) => one !== label);
  judge("labels", left.length < chosen.length ? left : [...chosen, label]);
}

function edit(kind) {
  if (!single()) return;
  editing = kind;
  const said = screen.item.said[kind];
  find("editor-label").textContent = kind === "correction"
    ? "The text as it should have been" : "What is wrong with it";
  find("text").value = said || (kind === "correction" ? screen.item.drafts[0] : "");
  find("editor").hidden = false;
  find("correct").setAttribute("aria-expanded", String(kind === "correction"));
  find("criticise").setAttribute("aria-expanded", String(kind === "critique"));
  find("text").focus();
}

function close() {
  editing = null;
  find("editor").hidden = true;
  for (const id of ["correct", "criticise"]) find(id).setAttribute("aria-expanded", "false");
}

async function save() {
  const kind = editing;
  if (kind && await judge(kind, find("text").value)) {
    close();
    find("next").focus();
    return true;
  }
  return !kind;
}

async function next() {  // with what is still in the editor
  const untouched = editing === "correction" && find("text").value === screen.item.drafts[0];
  if (!single() || (editing && !untouched && find("text").value.trim() && !await save())) return;
  if (Object.keys(screen.item.said).length) ask("next");
  else say("Say something of this item first, or skip it.");
}

function onKey(event) {
  const typing = /^(INPUT|TEXTAREA)$/.test(event.target.tagName);
  if (event.target === find("text")) {
    if (event.key === "Escape") { close(); find("next").focus(); event.preventDefault(); }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { save(); event.preventDefault(); }
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !screen) return;
  const key = event.key.toLowerCase();
  if (key === "enter") {
    if (event.target.matches("button:focus-visible")) return;  // presses the button
    next();
  } else if (/^[1-5]$/.test(key)) rate(Number(key));
  else if (key === "a" || key === "b") prefer(key);
  else if (key === "t") prefer("tie");
  else if (key === "n" && pair()) prefer("neither");
  else if (key === "escape" && screen.judged) ask("look");
  else if (key === "s") skip();
  else if (key === "z") undo();
  else if (key === "r" && !screen.item) ask("look");
  else if (key === "c") edit("correction");
  else if (key === "w") edit("critique");
  else if (single() && LABEL_KEYS.includes(key) && screen.labels[LABEL_KEYS.indexOf(key)]) {
    toggle(screen.labels[LABEL_KEYS.indexOf(key)]);
  } else return;
  event.preventDefault();
}

function signIn() {
  sessionStorage.removeItem(KEPT);
  find("sign-in").hidden = false;
  find("name").focus();
}

document.addEventListener("DOMContentLoaded", async () => {
  document.addEventListener("keydown", onKey);
  find("prefer-a").addEventListener("click", () => prefer("a"));
  find("prefer-b").addEventListener("click", () => prefer("b"));
  for (const side of ["tie", "neither"]) {
    find(side).addEventListener("click", () => prefer(side));
  }
  find("review").addEventListener("click", () => ask("review"));
  find("back").addEventListener("click", () => ask("look"));
  find("skip").addEventListener("click", skip);
  find("undo").addEventListener("click", undo);
  find("undo-last").addEventListener("click", undo);
  find("look").addEventListener("click", () => ask("look"));
  find("next").addEventListener("click", next);
  find("correct").addEventListener("click", () => edit("correction"));
  find("criticise").addEventListener("click", () => edit("critique"));
  find("cancel").addEventListener("click", close);
  find("editor").addEventListener("submit", (event) => { event.preventDefault(); save(); });
  find("sign-in-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEPT, find("name").value);
    if (!await ask("look")) signIn();
  });
  if (!sessionStorage.getItem(KEPT)) signIn();
  else ask("look");
});
