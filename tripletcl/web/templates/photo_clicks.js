// Reports to Python which photo was picked, taken out or opened, and the stage of a click in a matrix.
element.addEventListener('click', event => {
  const button = event.target.closest('button, td.cell');
  if (!button) return;
  const photo = button.dataset.photo;
  if (button.classList.contains('pick')) {
    const picked = button.getAttribute('aria-pressed') !== 'true';
    const same = document.querySelectorAll(`.pick[data-photo="${photo}"]`);
    same.forEach(one => one.setAttribute('aria-pressed', picked));
    window.lastPick = {photo, picked};
    trigger('select', {});
  } else if (button.classList.contains('out')) {
    trigger('delete', {photo});
  } else if (button.classList.contains('look')) {
    trigger('click', {photo});
  } else if (button.dataset.stage) {
    trigger('select', {stage: Number(button.dataset.stage)});
  }
});
