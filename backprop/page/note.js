// Notes that lie over the page: a line of the walkthrough after a press, a word on hover.

const kinds = {}; // name: { write, onHover }
const note = document.getElementById("note");
const body = document.getElementById("note-body");
let anchor = null; // what the note belongs to
let pressed = false; // it was opened by a press, and stays
let closing = 0;

/**
 * From now on, an element with data-NAME opens a note when it is pressed, and with `onHover` also
 * while the pointer or the focus is on it. `write(value)` returns the note's HTML.
 */
export function addNote(name, write, onHover = false) {
  kinds[name] = { write, onHover };
}

function find(target) {
  for (const [name, kind] of Object.entries(kinds)) {
    const found = target.closest?.(`[data-${name}]`);
    if (found) return { found, kind, value: found.dataset[name] };
  }
  return null;
}

function open({ found, kind, value }, byPress) {
  clearTimeout(closing);
  if (anchor === found && pressed >= byPress) return;
  [anchor, pressed] = [found, byPress];
  body.innerHTML = kind.write(value);
  note.classList.toggle("small", kind.onHover);
  note.hidden = false;
  place();
}

/** Below what it belongs to, or above it where there is more room. */
function place() {
  const at = anchor.getBoundingClientRect();
  const [width, height] = [note.offsetWidth, note.offsetHeight];
  const left = Math.min(Math.max(8, at.left + at.width / 2 - width / 2), innerWidth - width - 8);
  const below = innerHeight - at.bottom - 8;
  const top = below >= height || below >= at.top ? at.bottom + 6 : at.top - height - 6;
  note.style.left = `${left}px`;
  note.style.top = `${Math.min(Math.max(8, top), Math.max(8, innerHeight - height - 8))}px`;
}

/** Close the note; true if there was one. */
export function closeNote() {
  if (note.hidden) return false;
  note.hidden = true;
  if (pressed && note.contains(document.activeElement)) anchor.focus?.();
  [anchor, pressed] = [null, false];
  return true;
}

document.addEventListener("click", (event) => {
  const wanted = find(event.target);
  if (wanted) {
    if (anchor === wanted.found && pressed) return closeNote();
    open(wanted, true);
    if (!wanted.kind.onHover) note.focus();
  } else if (!note.contains(event.target)) closeNote();
});
document.addEventListener("keydown", (event) => {
  const wanted = find(event.target);
  if (wanted && wanted.found.tagName.toLowerCase() === "a" && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    open(wanted, true);
    note.focus();
  }
});
function near(event) {
  const wanted = find(event.target);
  if (wanted?.kind.onHover) open(wanted, false);
  else if (note.contains(event.target)) clearTimeout(closing);
}
function away(event) {
  if (!pressed && (find(event.target) || note.contains(event.target))) {
    clearTimeout(closing);
    closing = setTimeout(closeNote, 200); // time to reach the note itself
  }
}
document.addEventListener("mouseover", near);
document.addEventListener("focusin", near);
document.addEventListener("mouseout", away);
document.addEventListener("focusout", away);
document.getElementById("note-close").addEventListener("click", closeNote);
addEventListener("resize", closeNote);
addEventListener("scroll", ({ target }) => note.contains(target) || closeNote(), {
  capture: true,
  passive: true,
});
