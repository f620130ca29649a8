// Which activation is explained: the activation below the mouse, or the one that a press holds.

/**
 * `changed(before)` is called after another activation, { name, c, i, j }, or none has been
 * picked; `before` is the one picked before.
 */
export function makePick(changed) {
  let [hovered, pinned] = [null, null];

  function become(next) {
    const before = pinned ?? hovered;
    const held = pinned;
    [hovered, pinned] = [next.hovered ?? null, next.pinned ?? null];
    if (before !== (pinned ?? hovered) || held !== pinned) changed(before);
  }

  return {
    now: () => pinned ?? hovered,
    held: () => pinned !== null,
    hover(place) {
      if (!pinned) become({ hovered: place });
    },
    leave() {
      if (!pinned) become({});
    },
    pin: (place) => become({ pinned: place }),
    clear: () => become({}),
  };
}
