// Pictures of any proportions to rows of one height each, filled from edge to edge.

// A panorama or a scroll is shown whole, within a frame of these proportions at most.
const FLATTEST = 3;
const TALLEST = 0.5;

/** The proportions of a result's frame: width by height. */
export function proportions(result) {
  const found = result.width && result.height ? result.width / result.height : 1;
  return Math.min(Math.max(found, TALLEST), FLATTEST);
}

/**
 * The frames' sizes, [width, height] each, of as many pictures as fill whole rows; all of them if `complete`, the last
 * row then at most as high as the others.
 *
 * A row that is not full is left out until more pictures have come, so that no picture ever moves when they do.
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
