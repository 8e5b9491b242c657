// Layout of pictures of any proportions in rows of uniform height and full width.

// Limits of a frame's proportions; more extreme pictures are shown whole within the frame.
const FLATTEST = 3;
const TALLEST = 0.5;

/** The proportions of a result's frame: width divided by height. */
export function proportions(result) {
  const found = result.width && result.height ? result.width / result.height : 1;
  return Math.min(Math.max(found, TALLEST), FLATTEST);
}

/**
 * The frame sizes, [width, height], of the pictures that fill whole rows; of all pictures if `complete`, with the last
 * row at most as high as the others.
 *
 * An incomplete row is left out until more pictures are loaded, so that pictures never move.
 */
export function sizes(ratios, room, gap, complete) {
  const highest = heightFor(room);
  const made = [];
  let row = [];
  let sum = 0;
  const lay = (height) => {
    made.push(...row.map((ratio) => [Math.floor(ratio * height * 100) / 100, height]));
    row = [];
    sum = 0;
  };
  for (const ratio of ratios) {
    row.push(ratio);
    sum += ratio;
    const height = (room - gap * (row.length - 1)) / sum;
    if (height <= highest) {
      lay(height);
    }
  }
  if (complete) {
    lay(highest);
  }
  return made;
}

function heightFor(room) {
  return Math.min(Math.max(room * 0.2, 190), 270);
}
