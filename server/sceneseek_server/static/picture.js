// A dropped, pasted or chosen picture to search by. It is reduced here: a search needs no more pixels, each page of
// results sends it again, and the camera's metadata (place, time) is not sent.

import { byId } from "./elements.js";

const LONGEST_SIDE = 1024;
const SMALL_ENOUGH = 512 * 1024;
const OWN_IMAGE = /\/v1\/images\/([0-9a-f-]{36})(?:\/thumbnail)?$/;

/**
 * The picture of a file, `{ bytes, type, name }`; null if it is not a picture.
 *
 * Formats that the browser cannot decode, such as HEIC, are sent unchanged: the service may decode them.
 */
export async function readPicture(file) {
  if (!file.type.startsWith("image/")) {
    return null;
  }
  const name = crypto.getRandomValues(new Uint32Array(2)).join("-");
  try {
    const image = await createImageBitmap(file);
    const scale = LONGEST_SIDE / Math.max(image.width, image.height);
    if (scale >= 1 && file.size <= SMALL_ENOUGH && file.type !== "image/jpeg") {
      return { bytes: await file.arrayBuffer(), type: file.type, name };
    }
    const drawn = await drawing(image, Math.min(scale, 1));
    return { bytes: await drawn.arrayBuffer(), type: drawn.type, name };
  } catch {
    return { bytes: await file.arrayBuffer(), type: file.type, name };
  }
}

function drawing(image, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(Math.round(image.width * scale), 1);
  canvas.height = Math.max(Math.round(image.height * scale), 1);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  // WebP supports transparency; browsers that cannot encode it write PNG.
  return new Promise((resolve) => canvas.toBlob(resolve, "image/webp", 0.92));
}

/** Draw a preview onto a canvas of fixed size. A canvas needs no permission for blobs in the page's policy. */
export async function drawPreview(canvas, picture) {
  try {
    const image = await createImageBitmap(new Blob([picture.bytes], { type: picture.type }));
    const scale = Math.max(canvas.width / image.width, canvas.height / image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    const context = canvas.getContext("2d");
    context.drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  } catch {
    canvas.classList.add("unknown");
  }
}

/**
 * Listen for pictures that are dropped onto the page or pasted into it.
 *
 * overlay: the element shown while a picture is dragged over the page.
 * handlers: `.file(file)`, `.image(id)` for an image of the collection, `.neither()`; `.add(files)` for files dropped
 * onto the part of the overlay for uploads, if it is visible.
 */
export function listen(overlay, handlers) {
  let depth = 0;
  const carries = (event) => ["Files", "text/uri-list"].some((kind) => event.dataTransfer?.types.includes(kind));
  const adding = byId("drop-add");
  const hide = () => {
    depth = 0;
    overlay.hidden = true;
  };
  document.addEventListener("dragenter", (event) => {
    if (carries(event)) {
      depth += 1;
      overlay.hidden = false;
    }
  });
  document.addEventListener("dragleave", () => {
    depth = Math.max(depth - 1, 0);
    overlay.hidden = depth === 0;
  });
  document.addEventListener("dragend", hide);
  document.addEventListener("dragover", (event) => {
    if (carries(event)) {
      event.preventDefault();
      adding.classList.toggle("over", event.target === adding);
    }
  });
  document.addEventListener("drop", (event) => {
    if (carries(event)) {
      event.preventDefault();
      hide();
      if (event.target === adding && event.dataTransfer.files.length) {
        handlers.add([...event.dataTransfer.files]);
      } else {
        take(event.dataTransfer, handlers);
      }
    }
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) {
      event.preventDefault();
      take(event.clipboardData, handlers);
    }
  });
}

function take(transfer, handlers) {
  const own = ownImage(transfer.getData("text/uri-list"));
  const file = [...transfer.files].find((each) => each.type.startsWith("image/"));
  if (own) {
    handlers.image(own);
  } else if (file) {
    handlers.file(file);
  } else {
    handlers.neither();
  }
}

/** The id of an image of this collection in a URL, or of the image that a link of the page opens; otherwise "". */
function ownImage(text) {
  const first = text.split("\n").find((line) => line && !line.startsWith("#")) ?? "";
  if (!URL.canParse(first)) {
    return "";
  }
  const url = new URL(first);
  if (url.origin !== location.origin) {
    return "";
  }
  return url.pathname.match(OWN_IMAGE)?.[1] ?? url.searchParams.get("view") ?? "";
}
