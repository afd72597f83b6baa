// The state of the run, every two seconds; the report anew once the ledger has grown.
const LOOK = 2000, RELOAD = 10000;  // milliseconds; the report at most so often while the run goes
const state = document.getElementById("state"), report = document.getElementById("report");
const message = document.getElementById("message");
const links = document.getElementById("links");
let shown = -1, loaded = 0, asking = false;

// Name of the search whose report is in the frame: empty for the run itself.
function here() {
  const parts = report.contentWindow.location.pathname.split("/");
  return parts.at(-1) === "report.html" && parts.length > 3 ? parts.at(-2) : "";
}

function page(name) {
  return (name ? name + "/" : "") + "report.html";
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function drawn([title, rows]) {
  const section = document.createElement("section"), list = document.createElement("dl");
  if (title) section.append(element("h2", title));
  for (const [name, value] of rows) list.append(element("dt", name), element("dd", value));
  section.append(list);
  return section;
}

function link(name) {
  const made = element("a", name || "run");
  made.href = page(name);
  made.target = "report";
  made.addEventListener("click", () => { shown = -1; });
  return made;
}

function load(bytes) {
  const top = report.contentWindow.scrollY;
  report.addEventListener("load", () => report.contentWindow.scrollTo(0, top), {once: true});
  report.contentWindow.location.replace(page(here()) + "?" + bytes);  // not in the browser's history
  shown = bytes;
  loaded = Date.now();
}

async function look() {
  if (document.hidden || asking) return;
  asking = true;
  try {
    const answer = await fetch("state"), found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    document.title = found.title;
    state.replaceChildren(...found.sections.map(drawn));
    message.hidden = true;
    const names = Object.keys(found.ledgers);
    if (names.length > 1 && links.childElementCount !== names.length) links.replaceChildren(...names.map(link));
    const bytes = found.ledgers[here()];
    const due = shown < 0 || !found.running || Date.now() - loaded > RELOAD;
    if (bytes !== shown && due) load(bytes);
  } catch (error) {
    const gone = error instanceof TypeError;  // of fetch: nobody answers
    message.textContent = gone ? "evo watch has ended; start it again to see how the run goes on" : error.message;
    message.hidden = false;
  } finally {
    asking = false;
  }
}

look();
setInterval(look, LOOK);
document.addEventListener("visibilitychange", look);
