// What HTML and htmx do not do by themselves: an overlay's opacity, a rectangle in a picture, the camera.
"use strict";

function say(target, text) {
  const sentence = document.createElement("p");
  sentence.className = "error";
  sentence.setAttribute("role", "alert");
  sentence.textContent = text;
  target.replaceChildren(sentence);
}

document.addEventListener("input", (event) => {
  if (event.target.matches("[data-opacity]")) {
    const view = event.target.closest(".card").querySelector(".view");
    view.style.setProperty("--opacity", event.target.value / 100);
  }
  const form = event.target.closest(".rectangle");
  if (form) showBox(form.closest(".card"));
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
  if (event.target.matches("form[data-upload] [name=file]") && event.target.files.length) event.target.form.requestSubmit();
});

// A rectangle: drawn with a pointer, or given in the fields; both are in pixels of the image.
const FIELDS = ["left", "top", "right", "bottom"];
let drawing = null;

function showBox(card) {
  const view = card.querySelector(".view"), box = view.querySelector(".box");
  const width = Number(view.dataset.width), height = Number(view.dataset.height);
  const [left, top, right, bottom] = FIELDS.map((name, i) =>
    Math.min(Math.max(Number(card.querySelector(`[name=${name}]`).value), 0), i % 2 ? height : width), // it counts what lies in the picture
  );
  box.hidden = false;
  box.style.left = `${(100 * Math.min(left, right)) / width}%`;
  box.style.top = `${(100 * Math.min(top, bottom)) / height}%`;
  box.style.width = `${(100 * Math.abs(right - left)) / width}%`;
  box.style.height = `${(100 * Math.abs(bottom - top)) / height}%`;
}

function place(view, event) {
  const area = view.getBoundingClientRect();
  const part = (value, size) => Math.min(Math.max(value / size, 0), 1);
  return [
    part(event.clientX - area.left, area.width) * view.dataset.width,
    part(event.clientY - area.top, area.height) * view.dataset.height,
  ].map((value) => Math.round(value * 10) / 10);
}

function draw(event) {
  const [x, y] = place(drawing.view, event);
  const card = drawing.view.closest(".card");
  const corners = [Math.min(x, drawing.x), Math.min(y, drawing.y), Math.max(x, drawing.x), Math.max(y, drawing.y)];
  FIELDS.forEach((name, i) => (card.querySelector(`[name=${name}]`).value = corners[i]));
  showBox(card);
}

document.addEventListener("pointerdown", (event) => {
  const view = event.target.closest(".measurable");
  if (!view || event.button !== 0) return;
  event.preventDefault();
  const [x, y] = place(view, event);
  drawing = { view, x, y };
  view.setPointerCapture(event.pointerId);
});
document.addEventListener("pointermove", (event) => drawing && draw(event));
document.addEventListener("pointerup", (event) => {
  if (!drawing) return;
  draw(event);
  drawing.view.closest(".card").querySelector("[name=left]").dispatchEvent(new Event("input", { bubbles: true }));
  drawing = null;
});
document.addEventListener("pointercancel", () => (drawing = null));
document.addEventListener("dragstart", (event) => event.target.closest(".view") && event.preventDefault());

// The camera, where the browser offers one: a picture of it becomes the file.
async function camera(button) {
  const area = button.closest(".camera"), video = area.querySelector("video");
  const [start, take] = ["start", "take"].map((name) => area.querySelector(`[data-camera=${name}]`));
  if (button === start) {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
    } catch {
      return say(document.querySelector("#answers"), "The camera cannot be used: the browser or the system says no.");
    }
    await video.play();
    video.hidden = take.hidden = false;
    start.hidden = true;
    return;
  }
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => {
    const files = new DataTransfer();
    files.items.add(new File([blob], "camera.jpg", { type: "image/jpeg" }));
    const input = button.form.querySelector("[name=file]");
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }, "image/jpeg", 0.92);
}

// A file may be dropped anywhere in the marked area.
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    const area = event.target.closest && event.target.closest(".drop");
    if (kind !== "dragleave") event.preventDefault(); // the browser would open the file instead of the page
    if (!area) return;
    area.classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) {
      const input = area.querySelector("input");
      const files = new DataTransfer();
      files.items.add(event.dataTransfer.files[0]);
      input.files = files.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    }
  });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.camera) camera(button);
  if (button.dataset.blocks) {
    const boxes = button.form.querySelectorAll("[name=block]");
    boxes.forEach((box) => (box.checked = { all: true, none: false, swap: !box.checked }[button.dataset.blocks]));
    boxes[0].dispatchEvent(new Event("change", { bubbles: true }));
  }
});

document.addEventListener("DOMContentLoaded", () => {
  const area = document.querySelector(".camera");
  if (area && navigator.mediaDevices) area.hidden = false;
});

document.addEventListener("htmx:beforeRequest", (event) => {
  const input = event.target.matches("form[data-upload]") && event.target.querySelector("[name=file]");
  const file = input && input.files[0];
  if (file && file.size > Number(input.dataset.most)) {
    event.preventDefault();
    const most = Math.round(input.dataset.most / 1048576);
    say(document.querySelector("#answers"), `The file has ${Math.ceil(file.size / 1048576)} MiB, more than ${most}: choose a smaller one.`);
  }
});
document.addEventListener("htmx:xhr:progress", (event) => {
  const bar = document.querySelector("#working progress");
  if (!bar || !event.detail.lengthComputable) return;
  if (event.detail.loaded < event.detail.total) bar.value = (100 * event.detail.loaded) / event.detail.total;
  else bar.removeAttribute("value"); // sent: the network computes
});
document.addEventListener("htmx:beforeSwap", (event) => {
  // A busy page answers a search that is watched with a sentence: what is shown stays, and is asked for again.
  if (event.detail.target.id === "search" && event.detail.xhr.status === 503) event.detail.shouldSwap = false;
});
document.addEventListener("htmx:sendError", (event) => {
  const target = document.querySelector("#answers");
  if (target && event.target.matches("form[data-upload]")) say(target, "The page does not answer: is it still running?");
});
