// Follows the daemon's event stream, and puts what changed into the page without losing what somebody types, reads or has in focus.
"use strict";
(() => {
  const live = document.querySelector(".live");
  const say = (words, state) => { live.textContent = words; live.className = `live ${state}`; };
  let waiting = null;
  let busy = false;
  let again = false;

  const key = (node) => node.id || null;
  const typed = (node) => node.querySelector && [...node.querySelectorAll("textarea, input:not([type=hidden])")].some((field) => field.value);

  // Brings `now` to look like `next`, child by child; nodes with an id keep their identity.
  const merge = (now, next) => {
    if (now.isEqualNode(next)) return;
    if (now.nodeType !== next.nodeType || now.nodeName !== next.nodeName) { now.replaceWith(next.cloneNode(true)); return; }
    if (now.nodeType !== Node.ELEMENT_NODE) { now.nodeValue = next.nodeValue; return; }
    if (now.nodeName === "FORM" && (typed(now) || now.contains(document.activeElement))) return;
    const open = now.nodeName === "DETAILS" && now.open;
    for (const { name } of [...now.attributes]) if (!next.hasAttribute(name)) now.removeAttribute(name);
    for (const { name, value } of next.attributes) if (now.getAttribute(name) !== value) now.setAttribute(name, value);
    if (open) now.open = true;
    if (now.nodeName === "INPUT" || now.nodeName === "TEXTAREA") return;
    const known = new Map([...now.children].filter(key).map((child) => [key(child), child]));
    let at = now.firstChild;
    for (const wanted of [...next.childNodes]) {
      const same = key(wanted) && known.get(key(wanted));
      if (same) {
        if (same !== at) now.insertBefore(same, at); else at = at.nextSibling;
        if (!same.isEqualNode(wanted)) { merge(same, wanted); same.classList.add("changed"); }
      } else if (at && !(key(at)) && at.nodeName === wanted.nodeName) {
        const following = at.nextSibling;
        merge(at, wanted);
        at = following;
      } else {
        now.insertBefore(wanted.cloneNode(true), at);
      }
    }
    while (at) { const following = at.nextSibling; at.remove(); at = following; }
  };

  // Puts another rendering of this page in its place; whoever reads the end of a transcript stays there.
  const show = (text) => {
    const next = new DOMParser().parseFromString(text, "text/html");
    const entries = document.querySelector(".entries");
    const atEnd = entries && entries.scrollTop + entries.clientHeight >= entries.scrollHeight - 20;
    merge(document.querySelector("main"), next.querySelector("main"));
    const list = document.querySelector(".entries");
    if (list && (atEnd || !entries)) list.scrollTop = list.scrollHeight;
    document.title = next.title;
  };

  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const asked = location.href;
      const answer = await fetch(asked, { headers: { accept: "text/html" } });
      const text = await answer.text();
      // An action may have led elsewhere meanwhile.
      if (asked === location.href) show(text);
      say("live", "on");
    } catch {
      say("not connected; what you see is as of before", "off");
    }
    busy = false;
    if (again) { again = false; soon(); }
  };
  const soon = () => { if (!waiting) waiting = setTimeout(() => { waiting = null; refresh(); }, 400); };

  // The stream goes on from the cursor that the page shows; after a lost connection the browser resumes with the last one.
  const head = document.body.dataset.head;
  if (head) {
    let stream;
    const open = (after) => {
      stream = new EventSource(`/api/v1/events/stream?after=${encodeURIComponent(after)}`);
      stream.onopen = () => { say("live", "on"); soon(); };
      stream.onmessage = soon;
      stream.onerror = () => {
        say("not connected; trying again", "off");
        // Refused for good: another journal, say. The page is loaded anew when the daemon answers.
        if (stream.readyState === EventSource.CLOSED) setTimeout(() => fetch("/healthz").then((answer) => { if (answer.ok) location.reload(); else open(after); }, () => open(after)), 2000);
      };
    };
    open(head);
  }
  const entries = document.querySelector(".entries");
  if (entries) entries.scrollTop = entries.scrollHeight;
  // What an agent says is no event of the journal.
  if (document.querySelector(".now, .transcript")) setInterval(() => { if (!document.hidden) soon(); }, 2000);

  // What cannot be taken back is asked about once more. Escape says no.
  const sure = (words) => new Promise((decide) => {
    const dialog = document.createElement("dialog");
    const ask = document.createElement("p");
    ask.id = "sure";
    ask.textContent = `${words}?`;
    const form = document.createElement("form");
    form.method = "dialog";
    for (const [value, text, style] of [["no", "No", ""], ["yes", words, "danger"]]) {
      const button = document.createElement("button");
      Object.assign(button, { value, textContent: text, className: style });
      form.append(button);
    }
    dialog.setAttribute("aria-labelledby", "sure");
    dialog.append(ask, form);
    dialog.addEventListener("close", () => { dialog.remove(); decide(dialog.returnValue === "yes"); });
    document.body.append(dialog);
    dialog.showModal();
  });

  const refused = (form, words) => {
    const line = form.querySelector(".refused") || form.appendChild(document.createElement("p"));
    line.className = "refused";
    line.setAttribute("role", "alert");
    line.textContent = words;
  };

  const send = async (form) => {
    const fields = new URLSearchParams(new FormData(form));
    const buttons = form.querySelectorAll("button");
    buttons.forEach((button) => { button.disabled = true; });
    try {
      const answer = await fetch("/act", { method: "POST", body: fields, headers: { accept: "text/html" } });
      const text = await answer.text();
      if (answer.ok) {
        form.reset();
        if (form.contains(document.activeElement)) document.activeElement.blur();
        // Only the page that the form is on is shown in its place.
        if (new URL(answer.url).pathname !== location.pathname) { location.href = answer.url; return; }
        history.replaceState(null, "", answer.url);
        show(text);
        const receipt = document.getElementById("receipt");
        if (receipt) receipt.focus();
        soon();
      } else {
        const next = new DOMParser().parseFromString(text, "text/html");
        const found = next.querySelector(".sorry h1");
        refused(form, found ? `Refused: ${found.textContent}` : `Refused: ${answer.status}`);
      }
    } catch {
      refused(form, "The daemon does not answer: nobody knows whether it was told. Look again when it is there.");
    }
    buttons.forEach((button) => { button.disabled = false; });
  };

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("form.act")) return;
    event.preventDefault();
    const words = form.dataset.confirm;
    if (!words || await sure(words)) send(form);
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
    const find = document.getElementById("find");
    if (event.key === "/" && find) { event.preventDefault(); find.focus(); }
  });
})();
