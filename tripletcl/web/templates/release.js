// Late answers, visible as long as they are for what is asked now.
(held, ...now) => {
  const [asked, answers] = held;
  const text = values => JSON.stringify(values, (_, value) => value?.path ?? value);  // of a file only its path
  if (text(asked) === text(now)) return answers;
  return answers.map(html => html && `<div class="stale">${html}</div>`);
}
