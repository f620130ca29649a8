// The walkthrough's lines, which the page carries with it: a number opens the one that derives it.

import { addNote } from "./note.js";
import { toHTML } from "./prose.js";

const lines = JSON.parse(document.getElementById("data").textContent).lines;

/**
 * The walkthrough's address, whose `file` is README.md or LAYERS.md: GitHub shows a fork's where
 * GitHub Pages shows its page; a notebook names the place; else it lies beside the page.
 */
export function walkthrough(file = "README.md") {
  const folder = document.documentElement.dataset.walkthrough;
  const owner = location.hostname.match(/^(.+)\.github\.io$/)?.[1];
  const name = location.pathname.split("/")[1];
  if (folder) return `${folder}/${file}`;
  return owner ? `https://github.com/${owner}/${name}/blob/HEAD/backprop/${file}` : file;
}

/** HTML that opens the line which derives it; HTML alone if the page was built without that line. */
export function derived(key, html) {
  if (!(key in lines)) return html;
  return `<a class="why" role="button" tabindex="0" aria-haspopup="dialog" data-line="${key}">${html}</a>`;
}

addNote("line", (key) => {
  const { title, file, slug, text } = lines[key];
  const address = `${walkthrough(file)}#${slug}`;
  return `<h3>${toHTML(title, true)}</h3>${toHTML(text)}
    <p class="more"><a href="${address}" target="_blank" rel="noopener">The whole section</a>, in
    ${file} of the repository</p>`;
});
