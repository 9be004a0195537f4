// The chat page: conversations, kept in this browser alone, over the server's own /v1 API.
'use strict';

const $ = (id) => document.getElementById(id);
const SETTINGS = ['temperature', 'top_p', 'max_tokens', 'seed', 'system'];
const state = {conversations: load('conversations', []), current: null, running: [], sources: []};

function load(key, otherwise) {
  try { return JSON.parse(localStorage.getItem(key)) ?? otherwise; } catch { return otherwise; }
}
function save() {
  state.conversations = state.conversations.filter((c) => c.turns.length || c === state.current).slice(0, 100);
  try { localStorage.setItem('conversations', JSON.stringify(state.conversations, finished)); } catch { say('This browser keeps no more history.'); }
}
// An answer that is still coming is not coming any more once the page is loaded again.
function finished(key, value) { return key === 'running' || key === 'pending' ? undefined : value; }
function say(text) { $('status').textContent = text; }
function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}
function button(text, label, action) {
  const node = element('button', '', text);
  node.type = 'button';
  if (label) node.setAttribute('aria-label', label);
  node.addEventListener('click', action);
  return node;
}
function headers() {
  const key = $('key').value;
  return key ? {'Content-Type': 'application/json', Authorization: `Bearer ${key}`} : {'Content-Type': 'application/json'};
}

// Models: those of this server, and of the one that it was told to compare with.
async function listModels() {
  state.sources = [];
  let config = {};
  try { config = await (await fetch('config.json')).json(); } catch { /* none */ }
  for (const base of ['v1', ...(config.compare ? [config.compare] : [])]) {
    try {
      const answer = await fetch(`${base}/models`, {headers: headers()});
      if (answer.status === 401) { say('This server asks for an API key: give it in the settings.'); $('settings').open = true; continue; }
      for (const model of (await answer.json()).data ?? []) state.sources.push({base, id: model.id});
    } catch { say(base === 'v1' ? 'The server does not answer.' : 'The second server does not answer.'); }
  }
  for (const id of ['model', 'second']) {
    $(id).replaceChildren(...state.sources.map((source, i) => new Option(source.id, String(i))));
  }
  if (state.sources.length > 1) $('second').selectedIndex = 1;
}

function start(conversation) {
  stopAll();
  state.current = conversation ?? {title: '', turns: []};
  if (!conversation) state.conversations.unshift(state.current);
  show();
}

function show() {
  $('history').replaceChildren(...state.conversations.filter((c) => c.turns.length).map((conversation) => {
    const item = element('li');
    if (conversation === state.current) item.setAttribute('aria-current', 'true');
    item.append(button(conversation.title || 'Untitled', '', () => { start(conversation); closeMenu(); }),
      button('✕', `Delete ${conversation.title}`, () => {
        state.conversations = state.conversations.filter((c) => c !== conversation);
        if (conversation === state.current) start(); else show();
        save();
      }));
    return item;
  }));
  $('title').textContent = state.current.title || 'Retort';
  const turns = state.current.turns.map((turn, i) => turn.role === 'user' ? userTurn(turn, i) : answerTurn(turn, i));
  $('log').replaceChildren(...(turns.length ? turns : [element('p', 'empty', 'Ask something. What is said stays in this browser.')]));
  scroll(true);
}
function scroll(always) {
  const log = $('log');
  if (always || log.scrollHeight - log.scrollTop - log.clientHeight < 120) log.scrollTop = log.scrollHeight;
}

function userTurn(turn, index) {
  const node = element('article', 'turn mine');
  node.append(element('h2', 'unseen', 'You'), element('div', 'message user', turn.text));
  const meta = element('div', 'meta');
  meta.append(button('Edit', 'Edit this message', () => edit(index)));
  node.append(meta);
  return node;
}
function answerTurn(turn, index) {
  const node = element('article', turn.answers.length > 1 ? 'turn pair' : 'turn');
  turn.answers.forEach((answer, i) => node.append(answerNode(answer, index, i)));
  return node;
}
function answerNode(answer, index, which) {
  const node = element('div', 'message');
  node.append(element('h2', 'name', answer.model));
  if (answer.reasoning) {
    const fold = element('details', 'reasoning');
    fold.open = answer.running && !answer.text;
    const body = element('div', 'body');
    body.append(renderMarkdown(answer.reasoning, !answer.running));
    fold.append(element('summary', '', answer.running && !answer.text ? 'Reasoning…' : 'Reasoning'), body);
    node.append(fold);
  }
  const body = element('div', answer.running ? 'body waiting' : 'body');
  body.append(renderMarkdown(answer.text, !answer.running));
  node.append(body);
  if (answer.error) node.append(element('p', 'error', answer.error));
  if (!answer.running) {
    const meta = element('div', 'meta');
    if (answer.note) meta.append(element('span', '', answer.note));
    meta.append(button('Copy', 'Copy this answer', () => navigator.clipboard?.writeText(answer.text)));
    if (index === state.current.turns.length - 1 && which === 0) {
      meta.append(button('Regenerate', 'Ask for another answer', () => { state.current.turns.pop(); ask(); }));
    }
    node.append(meta);
  }
  Object.defineProperty(answer, 'node', {value: node, enumerable: false, configurable: true});
  return node;
}

function edit(index) {
  stopAll();
  $('prompt').value = state.current.turns[index].text;
  state.current.turns.length = index;
  show();
  grow();
  $('prompt').focus();
}

function messagesFor(which) {
  const messages = $('system').value.trim() ? [{role: 'system', content: $('system').value}] : [];
  for (const turn of state.current.turns) {
    if (turn.role === 'user') messages.push({role: 'user', content: turn.text});
    else if (!turn.pending) messages.push({role: 'assistant', content: (turn.answers[which] ?? turn.answers[0]).text});
  }
  return messages;
}

function ask() {
  const chosen = [state.sources[$('model').value]];
  if ($('compare').checked) chosen.push(state.sources[$('second').value]);
  if (!chosen[0]) { say('No model answers yet.'); listModels(); return; }
  const turn = {role: 'assistant', pending: true, answers: []};
  const conversation = state.current;
  const requests = chosen.map((source, which) => ({source, messages: messagesFor(which)}));
  turn.answers = chosen.map((source) => ({model: source.id, text: '', reasoning: '', running: true}));
  conversation.turns.push(turn);
  show();
  say('The model is answering.');
  $('send').hidden = true;
  $('stop').hidden = false;
  const index = conversation.turns.length - 1;
  Promise.all(requests.map((request, i) => answer(request, turn.answers[i], index, i))).then(() => {
    delete turn.pending;
    state.running = [];
    $('send').hidden = false;
    $('stop').hidden = true;
    const stopped = turn.answers.some((a) => a.stopped);
    say(turn.answers.some((a) => a.error) ? 'The answer failed.' : stopped ? 'Stopped.' : 'The answer is complete.');
    save();
    if (conversation === state.current) show();
  });
}

function requestBody(source, messages) {
  const body = {model: source.id, messages, stream: true, stream_options: {include_usage: true},
    temperature: Number($('temperature').value), top_p: Number($('top_p').value)};
  if ($('max_tokens').value) body.max_completion_tokens = Number($('max_tokens').value);
  if ($('seed').value) body.seed = Number($('seed').value);
  return JSON.stringify(body);
}

async function answer({source, messages}, out, index, which) {
  const controller = new AbortController();
  state.running.push(controller);
  const begun = performance.now();
  let tokens = 0;
  let due = false;
  const refresh = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      if (!out.running || !out.node?.isConnected) return;
      out.node.replaceWith(answerNode(out, index, which));
      scroll(false);
    });
  };
  try {
    const response = await fetch(`${source.base}/chat/completions`, {
      method: 'POST', headers: headers(), body: requestBody(source, messages), signal: controller.signal});
    if (!response.ok) throw new Error((await response.json().catch(() => null))?.error?.message ?? `status ${response.status}`);
    for await (const event of events(response.body)) {
      if (event.error) throw new Error(event.error.message);
      const delta = event.choices?.[0]?.delta;
      if (delta?.reasoning_content) out.reasoning += delta.reasoning_content;
      if (delta?.content) out.text += delta.content;
      if (event.choices?.[0]?.finish_reason === 'length') out.cut = true;
      if (event.usage) tokens = event.usage.completion_tokens;
      refresh();
    }
  } catch (error) {
    if (error.name === 'AbortError') out.stopped = true;
    else out.error = error.message;
  }
  const seconds = (performance.now() - begun) / 1000;
  out.note = tokens ? `${tokens} tokens, ${(tokens / seconds).toFixed(1)} a second${out.cut ? ', cut at the limit' : ''}` : out.stopped ? 'stopped' : '';
  out.running = false;
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const frames = (rest + value).split('\n\n');
    rest = frames.pop();
    for (const frame of frames) {
      if (!frame.startsWith('data: ')) continue;  // a comment that keeps the connection alive
      const data = frame.slice(6);
      if (data === '[DONE]') return;
      yield JSON.parse(data);
    }
  }
}

function stopAll() {
  for (const controller of state.running) controller.abort();
}
function send() {
  const text = $('prompt').value.trim();
  if (!text || state.running.length) return;
  if (!state.current.title) state.current.title = text.slice(0, 60);
  state.current.turns.push({role: 'user', text});
  $('prompt').value = '';
  grow();
  save();
  ask();
}
function grow() {
  const prompt = $('prompt');
  prompt.style.height = 'auto';
  prompt.style.height = `${prompt.scrollHeight + 2}px`;
}
function closeMenu() {
  $('sidebar').classList.remove('open');
  $('menu').setAttribute('aria-expanded', 'false');
}

$('form').addEventListener('submit', (event) => { event.preventDefault(); send(); });
$('prompt').addEventListener('input', grow);
$('prompt').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
});
document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  stopAll();
  closeMenu();
});
$('stop').addEventListener('click', stopAll);
$('new').addEventListener('click', () => { start(); closeMenu(); $('prompt').focus(); });
$('menu').addEventListener('click', () => {
  $('menu').setAttribute('aria-expanded', String($('sidebar').classList.toggle('open')));
});
$('log').addEventListener('click', closeMenu);
$('theme').addEventListener('click', () => {
  const now = document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
  document.documentElement.dataset.theme = now === 'dark' ? 'light' : 'dark';
  localStorage.setItem('theme', document.documentElement.dataset.theme);
});
$('compare').addEventListener('change', () => { $('second-label').hidden = !$('compare').checked; });
for (const name of SETTINGS) {
  const stored = localStorage.getItem(`setting.${name}`);
  if (stored !== null) $(name).value = stored;
  const shown = $(`${name}-value`);
  if (shown) shown.textContent = $(name).value;
  $(name).addEventListener('input', () => {
    localStorage.setItem(`setting.${name}`, $(name).value);
    if (shown) shown.textContent = $(name).value;
  });
}
$('key').value = sessionStorage.getItem('key') ?? '';
$('key').addEventListener('change', () => { sessionStorage.setItem('key', $('key').value); listModels(); });
if (localStorage.getItem('theme')) document.documentElement.dataset.theme = localStorage.getItem('theme');
start();
listModels();
