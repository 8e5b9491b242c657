// A picture from outside, dropped, pasted or chosen, to search by. It is made small here: a search needs no more, each
// page of the results sends it anew, and what a camera writes beside the picture (where, when) stays with the user.

import { byId } from "./elements.js";

const LONGEST_SIDE = 1024;
const SMALL_ENOUGH = 512 * 1024;
const OWN_IMAGE = /\/v1\/images\/([0-9a-f-]{36})(?:\/thumbnail)?$/;

/**
 * The picture of a file, `{ bytes, type, name }`; null if it is none.
 *
 * What this browser cannot read (HEIC, say) goes as it is: the service may.
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
  // WebP keeps transparency; a browser that cannot write it writes PNG.
  return new Promise((resolve) => canvas.toBlob(resolve, "image/webp", 0.92));
}

/** Draw a picture's preview onto a canvas of a fixed size. On a canvas, so that the page needs no rights for blobs. */
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
 * curtain: what shows while one is held over the page.
 * heard: `.file(file)`, `.image(id)` for one of the collection's own, `.neither()`; `.add(files)` of what is dropped
 * onto the part of the curtain that says so, if that can be seen.
 */
export function listen(curtain, heard) {
  let depth = 0;
  const carries = (event) => ["Files", "text/uri-list"].some((kind) => event.dataTransfer?.types.includes(kind));
  const adding = byId("drop-add");
  const lift = () => {
    depth = 0;
    curtain.hidden = true;
  };
  document.addEventListener("dragenter", (event) => {
    if (carries(event)) {
      depth += 1;
      curtain.hidden = false;
    }
  });
  document.addEventListener("dragleave", () => {
    depth = Math.max(depth - 1, 0);
    curtain.hidden = depth === 0;
  });
  document.addEventListener("dragend", lift);
  document.addEventListener("dragover", (event) => {
    if (carries(event)) {
      event.preventDefault();
      adding.classList.toggle("over", event.target === adding);
    }
  });
  document.addEventListener("drop", (event) => {
    if (carries(event)) {
      event.preventDefault();
      lift();
      if (event.target === adding && event.dataTransfer.files.length) {
        heard.add([...event.dataTransfer.files]);
      } else {
        take(event.dataTransfer, heard);
      }
    }
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) {
      event.preventDefault();
      take(event.clipboardData, heard);
    }
  });
}

function take(transfer, heard) {
  const own = ownImage(transfer.getData("text/uri-list"));
  const file = [...transfer.files].find((each) => each.type.startsWith("image/"));
  if (own) {
    heard.image(own);
  } else if (file) {
    heard.file(file);
  } else {
    heard.neither();
  }
}

/** The id of an image of this collection that an address names, or of the one that a link of the page opens. */
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
