// The keys of the photos picked, after a click on a photo's +.
(picked) => {
  const {photo, picked: on} = window.lastPick;
  const others = (picked || []).filter(key => key !== photo);
  return [on ? [...others, photo] : others];
}
