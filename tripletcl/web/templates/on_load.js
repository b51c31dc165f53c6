// A dropdown that is left by Tab closes; Gradio would open its list again after it was left.
() => document.addEventListener('keydown', event => {
  if (event.key === 'Tab' && event.target.matches('input[role=combobox]')) event.stopImmediatePropagation();
}, true)
