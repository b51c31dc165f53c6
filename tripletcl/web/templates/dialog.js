// Opens a dialog when Python sends one, and closes it by its button or a click next to it.
const open = () => {
  const dialog = element.querySelector('dialog');
  if (dialog && !dialog.open) dialog.showModal();
};
watch('value', open);
element.addEventListener('click', event => {
  const dialog = element.querySelector('dialog');
  if (dialog && (event.target === dialog || event.target.closest('.close'))) dialog.close();
});
