// The console: accounts, keys, plans, terms, requests and live figures over the admin API. Whatever the server tells
// is put in as text; no markup is ever made of it. The admin key travels in a header of its own, never in a cookie.
'use strict';

const $ = (id) => document.getElementById(id);
const state = {key: sessionStorage.getItem('admin-key') ?? '', view: 'overview', turn: 0, timer: 0, samples: []};
const UNITS = ['requests', 'tokens', 'money'];
const SPANS = ['minute', 'day', 'month'];
const COUNTS = {minute: 60, day: 30, month: 12};

function say(text, bad = false) {
  $('status').textContent = text;
  $('status').classList.toggle('bad', bad);
}
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'class') node.className = value;
    else if (name === 'on') for (const [event, action] of Object.entries(value)) node.addEventListener(event, action);
    else if (value !== false && value !== undefined) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
}
const button = (text, label, action) => element('button', {type: 'button', 'aria-label': label, on: {click: action}}, text);
function labelled(text, field) {
  return element('label', {class: field.type === 'checkbox' ? 'check' : undefined},
    ...(field.type === 'checkbox' ? [field, text] : [text, field]));
}
const input = (attributes) => element('input', {autocomplete: 'off', ...attributes});
function select(name, choices, chosen) {
  const node = element('select', {name});
  node.append(...choices.map(([value, text]) => new Option(text ?? value, value, false, value === chosen)));
  return node;
}
const when = (seconds) => seconds ? new Date(seconds * 1000).toISOString().replace('T', ' ').slice(0, 16) : '';
const dollars = (millionths) => `$${(millionths / 1e6).toFixed(millionths && Math.abs(millionths) < 1e4 ? 6 : 2)}`;
const shown = (unit, value) => unit === 'money' ? dollars(value) : value.toLocaleString('en');

async function api(method, path, body) {
  const response = await fetch(`admin/${path}`, {method, headers: {Authorization: `Bearer ${state.key}`, 'Content-Type': 'application/json'},
    body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store', credentials: 'omit', redirect: 'error'});
  const json = await response.json().catch(() => null);
  if (response.ok) return json;
  const error = new Error(json?.error?.message ?? `The server answers ${response.status}.`);
  error.status = response.status;
  throw error;
}
const list = async (path) => (await api('GET', path)).data;

// A table whose cells are nodes or text; on a phone each row is a card, with the column's name above each value.
function table(caption, columns, rows) {
  if (!rows.length) return element('p', {class: 'empty'}, `${caption}: none yet.`);
  return element('table', {class: 'list'}, element('caption', {}, caption),
    element('thead', {}, element('tr', {}, ...columns.map(([name, kind]) => element('th', {scope: 'col', class: kind}, name)))),
    element('tbody', {}, ...rows.map((row) => element('tr', {}, ...row.map((cell, i) =>
      element('td', {class: columns[i][1], 'data-label': columns[i][0]}, ...[cell].flat()))))));
}

// Asks before something is done; `fields` are put into the question. Resolves to whether the answer was yes.
function ask(title, yes, ...fields) {
  $('ask-title').textContent = title;
  $('ask-yes').textContent = yes;
  $('ask-fields').replaceChildren(...fields);
  $('ask').returnValue = '';
  $('ask').showModal();
  return new Promise((resolve) => $('ask').addEventListener('close', () => resolve($('ask').returnValue === 'yes'), {once: true}));
}
function showKey(made) {
  $('shown-key').textContent = made.key;
  $('shown').showModal();
}

// Does one thing, tells how it went, and shows the view anew.
async function act(what, work) {
  try {
    const answer = await work();
    await show();
    say(what);
    return answer;
  } catch (error) {
    say(error.message, true);
    if (error.status === 401) leave();
  }
}
function form(button, onSubmit, ...fields) {
  return element('form', {class: 'card', on: {submit: (event) => {
    event.preventDefault();
    onSubmit(new FormData(event.target), event.target);
  }}}, ...fields, element('div', {class: 'row bar'}, element('button', {type: 'submit', class: 'primary'}, button)));
}

const VIEWS = {
  async overview() {
    const usage = element('div');
    const accounts = await list('accounts');
    const controls = {account: select('account', [['', 'All accounts'], ...accounts.map((a) => [a.id, a.name])], ''),
      unit: select('unit', UNITS.map((unit) => [unit]), 'tokens'), per: select('per', SPANS.map((span) => [span, `by ${span}`]), 'day')};
    const draw = () => drawUsage(usage, controls).catch((error) => say(error.message, true));
    for (const control of Object.values(controls)) control.addEventListener('change', draw);
    const live = element('div', {id: 'live'});
    await Promise.all([drawLive(live), draw()]);
    repeat(2000, () => drawLive(live));
    return [element('section', {'aria-labelledby': 'live-title'}, element('h2', {id: 'live-title'}, 'Now'), live),
      element('section', {'aria-labelledby': 'usage-title'}, element('h2', {id: 'usage-title'}, 'Usage'),
        element('div', {class: 'row bar'}, labelled('Account', controls.account), labelled('Unit', controls.unit), labelled('Time', controls.per)), usage)];
  },

  async accounts() {
    const [accounts, plans, terms] = await Promise.all([list('accounts'), list('plans'), list('terms')]);
    const rows = accounts.map((account) => {
      const plan = select('plan', plans.map((each) => [each.name]), account.plan);
      plan.setAttribute('aria-label', `Plan of ${account.name}`);
      plan.addEventListener('change', () => act('The plan is changed.', () => api('POST', `accounts/${account.id}/plan`, {plan: plan.value})));
      return [[account.name, element('div', {class: 'soft'}, element('code', {}, account.id))], plan,
        account.status === 'active' ? 'active' : element('span', {class: 'bad'}, `suspended${account.reason ? `: ${account.reason}` : ''}`),
        account.acceptances.map((each) => element('div', {title: when(each.accepted)}, `${each.terms} by ${each.by}`)), when(account.created),
        element('div', {class: 'row'},
          button('Keys', `Keys of ${account.name}`, () => go('keys', account.id)),
          terms.length ? button('Accept terms', `Record that ${account.name} accepts terms`, () => acceptTerms(account, terms)) : null,
          account.status === 'active' ? button('Suspend', `Suspend ${account.name}`, () => suspend(account))
            : button('Resume', `Resume ${account.name}`, () => act('The account works again.', () => api('POST', `accounts/${account.id}/resume`, {}))))];
    });
    return [element('section', {}, table('Accounts', [['Name'], ['Plan'], ['Status'], ['Terms accepted'], ['Made'], ['']], rows)),
      element('section', {}, element('h2', {}, 'New account'), plans.length ? form('Make the account', (data) =>
        act('The account is made.', () => api('POST', 'accounts', {name: data.get('name'), plan: data.get('plan')})),
      element('div', {class: 'grid'}, labelled('Name', input({name: 'name', required: true, maxlength: 200})),
        labelled('Plan', select('plan', plans.map((each) => [each.name]))))) : element('p', {class: 'empty'}, 'An account needs a plan: make one first.'))];
  },

  async keys(wanted = '') {
    const accounts = await list('accounts');
    const chosen = select('account', [['', 'All accounts'], ...accounts.map((a) => [a.id, a.name])], wanted);
    chosen.addEventListener('change', () => go('keys', chosen.value));
    const names = new Map(accounts.map((account) => [account.id, account.name]));
    const now = Date.now() / 1000;
    const rows = (await list(`keys?account=${encodeURIComponent(wanted)}`)).map((key) => {
      const dead = (key.revoked && key.revoked <= now) || (key.expires && key.expires <= now);
      const status = key.revoked ? (dead ? element('span', {class: 'bad'}, `revoked ${when(key.revoked)}`) : `works until ${when(key.revoked)}`)
        : key.expires ? `${dead ? 'expired' : 'expires'} ${when(key.expires)}` : 'works';
      return [[key.name, element('div', {class: 'soft'}, element('code', {}, key.id))], names.get(key.account) ?? key.account, key.role, status, when(key.created),
        dead ? '' : element('div', {class: 'row'}, button('Rotate', `Rotate ${key.name}`, () => rotate(key)), button('Revoke', `Revoke ${key.name}`, () => revoke(key)))];
    });
    return [element('section', {}, element('div', {class: 'row bar'}, labelled('Account', chosen)),
      table('Keys', [['Name'], ['Account'], ['Role'], ['Status'], ['Made'], ['']], rows)),
    element('section', {}, element('h2', {}, 'New key'), accounts.length ? form('Make the key', (data) =>
      act('The key is made.', async () => showKey(await api('POST', 'keys', {account: data.get('account'), name: data.get('name'), role: data.get('role'), days: Number(data.get('days') || 0)}))),
    element('div', {class: 'grid'}, labelled('Account', select('account', accounts.map((a) => [a.id, a.name]), wanted)),
      labelled('Name', input({name: 'name', required: true, maxlength: 200})), labelled('Role', select('role', [['user'], ['admin']])),
      labelled('Days until it expires', input({name: 'days', type: 'number', min: 0, max: 36500, placeholder: 'never'})))) : element('p', {class: 'empty'}, 'A key belongs to an account: make one first.'))];
  },

  async plans(wanted = '') {
    const plans = await list('plans');
    const rows = plans.map((plan) => [[element('strong', {}, plan.name), plan.training_on_outputs ? element('div', {class: 'soft'}, 'may train on answers') : null],
      plan.models.length ? plan.models.join(', ') : 'every model',
      Object.entries(plan.limits).map(([name, value]) => element('div', {}, `${name.replaceAll('_', ' ')}: ${name.startsWith('money') ? dollars(value) : value.toLocaleString('en')}`)),
      `${plan.reasoning} reasoning, ${plan.logprobs ? 'with' : 'no'} logprobs`, `${dollars(plan.prompt_price)} in, ${dollars(plan.completion_price)} out`,
      button('Change', `Change ${plan.name}`, () => go('plans', plan.name))]);
    const plan = plans.find((each) => each.name === wanted) ?? {name: '', models: [], limits: {}, reasoning: 'summarised', reserved_completion_tokens: 1024};
    return [element('section', {}, table('Plans', [['Name'], ['Models'], ['Limits'], ['Answers'], ['A million tokens'], ['']], rows)),
      element('section', {}, element('h2', {}, wanted ? 'Change a plan' : 'New plan'), planForm(plan))];
  },

  guard: guardView,

  async terms() {
    const rows = (await list('terms')).map((each) => [each.version, when(each.created), element('code', {}, each.text_sha256)]);
    return [element('section', {}, table('Terms', [['Version'], ['Published'], ['SHA-256 of the text']], rows)),
      element('section', {}, element('h2', {}, 'Publish a version'), form('Publish', async (data) => {
        if (await ask(`Publish ${data.get('version')}?`, 'Publish', element('p', {}, 'From then on keys are refused until their account has accepted it, unless their plan names another version.'))) {
          act('The terms are published.', () => api('POST', 'terms', {version: data.get('version'), text: data.get('text')}));
        }
      }, labelled('Version', input({name: 'version', required: true, maxlength: 100})), labelled('Text', element('textarea', {name: 'text', required: true}))))];
  },

  async requests(wanted = '') {
    const accounts = await list('accounts');
    const names = new Map(accounts.map((account) => [account.id, account.name]));
    const chosen = select('account', [['', 'All accounts'], ...accounts.map((a) => [a.id, a.name])], wanted);
    chosen.addEventListener('change', () => go('requests', chosen.value));
    const holder = element('div');
    const draw = async () => holder.replaceChildren(requestTable(await list(`requests?limit=100&account=${encodeURIComponent(wanted)}`), names));
    await draw();
    repeat(4000, draw);
    return [element('section', {}, element('div', {class: 'row bar'}, labelled('Account', chosen)), holder)];
  },
};

function requestTable(requests, names) {
  return table('The newest requests, without their text', [['Time, UTC'], ['Account'], ['Route'], ['Model'], ['Answer'], ['Tokens in, out', 'number'], ['First byte, whole', 'number']],
    requests.map((each) => [[new Date(each.time_ms).toISOString().slice(5, 19).replace('T', ' '), element('div', {class: 'soft'}, element('code', {}, each.request_id))],
      [names.get(each.account) ?? (each.account || 'unknown'), element('div', {class: 'soft'}, element('code', {}, each.key))],
      `${each.method} ${each.route}${each.stream ? ', streamed' : ''}`, each.model,
      element('span', {class: each.status >= 400 ? 'bad' : ''}, `${each.status} ${each.end}${each.code ? `: ${each.code}` : ''}`),
      `${each.prompt_tokens}, ${each.completion_tokens}`, `${(each.first_byte_us / 1000).toFixed(1)}, ${(each.total_us / 1000).toFixed(1)} ms`]));
}

async function acceptTerms(account, terms) {
  const version = select('version', terms.map((each) => [each.version]), terms.at(-1).version);
  const by = input({name: 'by', required: true, maxlength: 200});
  if (!await ask(`${account.name} accepts terms`, 'Record', labelled('Version', version), labelled('Who accepted', by)) || !by.value) return;
  act('The acceptance is recorded.', () => api('POST', `accounts/${account.id}/accept`, {version: version.value, by: by.value}));
}
async function suspend(account) {
  const reason = input({name: 'reason', maxlength: 200});
  if (!await ask(`Suspend ${account.name}?`, 'Suspend', element('p', {}, 'Every key of it is refused at once.'), labelled('Reason, told to whoever uses its keys', reason))) return;
  act('The account is suspended.', () => api('POST', `accounts/${account.id}/suspend`, {reason: reason.value}));
}
async function rotate(key) {
  const hours = input({name: 'hours', type: 'number', min: 0, max: 8760, step: 'any', value: 24});
  if (!await ask(`Rotate ${key.name}?`, 'Rotate', element('p', {}, 'A new key like it is made.'), labelled('Hours that the old one still works', hours))) return;
  act('The key is rotated.', async () => showKey(await api('POST', `keys/${key.id}/rotate`, {grace_seconds: Math.round(Number(hours.value) * 3600)})));
}
async function revoke(key) {
  if (!await ask(`Revoke ${key.name}?`, 'Revoke', element('p', {}, 'It stops at once, on every server, for good.'))) return;
  act('The key is revoked.', () => api('POST', `keys/${key.id}/revoke`, {}));
}

function planForm(plan) {
  const number = (name, text, value) => labelled(text, input({name, type: 'number', min: 0, step: 1, value, placeholder: 'no limit'}));
  const limits = UNITS.flatMap((unit) => SPANS.map((span) => `${unit}_per_${span}`));
  return form('Save the plan', (data) => act('The plan is saved.', () => api('POST', 'plans', {
    name: data.get('name'), models: data.get('models').split(',').map((name) => name.trim()).filter(Boolean), terms: data.get('terms'),
    reasoning: data.get('reasoning'), logprobs: data.has('logprobs'), prompt_logprobs: data.has('prompt_logprobs'), training_on_outputs: data.has('training_on_outputs'),
    prompt_price: Number(data.get('prompt_price') || 0), completion_price: Number(data.get('completion_price') || 0),
    reserved_completion_tokens: Number(data.get('reserved_completion_tokens') || 0),
    limits: Object.fromEntries(limits.filter((name) => data.get(name) !== '').map((name) => [name, Number(data.get(name))]))})),
  element('div', {class: 'grid'}, labelled('Name', input({name: 'name', required: true, maxlength: 100, value: plan.name})),
    labelled('Models, with commas between; none: every one', input({name: 'models', value: plan.models.join(', ')})),
    labelled('Reasoning', select('reasoning', [['full'], ['summarised'], ['withheld']], plan.reasoning)),
    labelled('Terms to accept; none: the newest', input({name: 'terms', value: plan.terms ?? ''})),
    labelled('Logprobs', input({name: 'logprobs', type: 'checkbox', checked: plan.logprobs})),
    labelled('Logprobs of echoed prompts', input({name: 'prompt_logprobs', type: 'checkbox', checked: plan.prompt_logprobs})),
    labelled('May train on answers', input({name: 'training_on_outputs', type: 'checkbox', checked: plan.training_on_outputs}))),
  element('fieldset', {}, element('legend', {}, 'Limits; money in millionths of a dollar'), element('div', {class: 'grid'},
    ...limits.map((name) => number(name, name.replaceAll('_', ' '), plan.limits[name] ?? '')))),
  element('fieldset', {}, element('legend', {}, 'Prices, in millionths of a dollar for a million tokens'), element('div', {class: 'grid'},
    number('prompt_price', 'Prompt', plan.prompt_price ?? ''), number('completion_price', 'Completion', plan.completion_price ?? ''),
    number('reserved_completion_tokens', 'Tokens reserved for an answer without a limit', plan.reserved_completion_tokens))));
}

async function drawUsage(holder, controls) {
  const per = controls.per.value;
  const unit = controls.unit.value;
  const starts = spanStarts(per, COUNTS[per]);
  const rows = await list(`usage?per=${per}&since=${starts[0]}&account=${encodeURIComponent(controls.account.value)}`);
  const sums = new Map(starts.map((start) => [start, 0]));
  for (const row of rows) if (row.unit === unit && sums.has(row.start)) sums.set(row.start, sums.get(row.start) + row.used);
  const points = [...sums].map(([start, value]) => ({label: spanLabel(per, start), value: unit === 'money' ? value / 1e6 : value}));
  const used = [...sums].filter(([, value]) => value > 0).map(([start, value]) => [spanLabel(per, start), shown(unit, value)]);
  holder.replaceChildren(chart(`${unit} by ${per}${unit === 'money' ? ', dollars' : ''}`, points, 'bar'),
    element('details', {}, element('summary', {}, 'As a table'), table(`${unit} by ${per}`, [['Time, UTC'], ['Used', 'number']], used)));
}

// Prometheus' text as a map from "name{labels}" to its number.
function readMetrics(text) {
  const out = new Map();
  for (const line of text.split('\n')) {
    const found = /^(retort:[^\s]+(?:\{.*\})?) (\S+)$/.exec(line);
    if (found) out.set(found[1].slice('retort:'.length), Number(found[2]));
  }
  return out;
}

async function drawLive(holder) {
  const response = await fetch('metrics', {headers: {Authorization: `Bearer ${state.key}`}, cache: 'no-store', credentials: 'omit'});
  if (!response.ok) throw new Error(`The metrics answer ${response.status}.`);
  const now = readMetrics(await response.text());
  const at = performance.now() / 1000;
  const sum = (metrics, start) => [...metrics].filter(([name]) => name.startsWith(start)).reduce((all, [, value]) => all + value, 0);
  const last = state.samples.at(-1);
  const rate = (start) => last ? Math.max(sum(now, start) - sum(last.metrics, start), 0) / (at - last.at) : 0;
  const tokens = rate('account_tokens_total{kind="completion"}');
  state.samples = [...state.samples, {at, metrics: now, tokens}].slice(-60);
  const first = [sum(now, 'time_to_first_token_seconds_sum'), sum(now, 'time_to_first_token_seconds_count')];
  const facts = [['Requests a second', rate('account_requests_admitted_total').toFixed(1)], ['Refused a second', rate('account_requests_refused_total').toFixed(1)],
    ['Tokens out a second', tokens.toFixed(1)], ['Tokens in a second', rate('account_tokens_total{kind="prompt"}').toFixed(1)],
    ['Running', sum(now, 'num_requests_running')], ['Waiting', sum(now, 'num_requests_waiting')],
    ['Cache in use', `${(100 * sum(now, 'kv_cache_usage_perc')).toFixed(0)} %`], ['First token, mean', first[1] ? `${(1000 * first[0] / first[1]).toFixed(0)} ms` : '—'],
    ['Events lost', sum(now, 'events_dropped_total')]];
  for (const [name, value] of now) if (name.startsWith('upstream_up{')) facts.push([name.slice(13, -2), value ? 'up' : 'down']);
  holder.replaceChildren(element('dl', {class: 'tiles'}, ...facts.map(([name, value]) => element('div', {}, element('dt', {}, name), element('dd', {}, String(value))))),
    chart('Tokens out a second, these two minutes', state.samples.map((sample, i) => ({label: i === state.samples.length - 1 ? 'now' : '', value: sample.tokens})), 'line'));
}

// Again and again, for as long as the view is shown and somebody can see it.
function repeat(milliseconds, work) {
  const turn = state.turn;
  const next = () => {
    if (turn !== state.turn) return;
    state.timer = setTimeout(async () => {
      if (turn === state.turn && !document.hidden) await work().catch((error) => turn === state.turn && say(error.message, true));
      next();
    }, milliseconds);
  };
  next();
}

async function show() {
  const turn = ++state.turn;
  clearTimeout(state.timer);
  for (const each of document.querySelectorAll('nav [data-view]')) {
    if (each.dataset.view === state.view) each.setAttribute('aria-current', 'page');
    else each.removeAttribute('aria-current');
  }
  const nodes = await VIEWS[state.view](state.wanted);
  if (turn === state.turn) $('view').replaceChildren(...nodes);
}
async function go(view, wanted) {
  Object.assign(state, {view, wanted});
  try {
    say('');
    document.querySelector(`nav [data-view=${view}]`).scrollIntoView({block: 'nearest', inline: 'nearest'});
    await show();
    $('main').focus({preventScroll: true});
  } catch (error) {
    say(error.message, true);
    if (error.status === 401) leave();
  }
}

async function enter() {
  try {
    await list('accounts');
    sessionStorage.setItem('admin-key', state.key);
    $('enter').hidden = true;
    $('views').hidden = $('leave').hidden = false;
    $('key').value = '';
    await go('overview');
  } catch (error) {
    const none = error.status === 404;
    leave();
    say(none ? 'This server keeps no accounts: start it with --store.' : error.message, true);
  }
}
function leave() {
  ++state.turn;
  clearTimeout(state.timer);
  Object.assign(state, {key: '', samples: []});
  sessionStorage.removeItem('admin-key');
  $('view').replaceChildren();
  $('enter').hidden = false;
  $('views').hidden = $('leave').hidden = true;
  $('key').focus();
}

$('enter').addEventListener('submit', (event) => { event.preventDefault(); state.key = $('key').value.trim(); enter(); });
$('leave').addEventListener('click', () => { leave(); say('Signed out.'); });
for (const each of document.querySelectorAll('nav [data-view]')) each.addEventListener('click', () => go(each.dataset.view));
$('shown-copy').addEventListener('click', () => navigator.clipboard?.writeText($('shown-key').textContent));
$('shown-done').addEventListener('click', () => $('shown').close());
$('shown').addEventListener('close', () => { $('shown-key').textContent = ''; });
$('theme').addEventListener('click', () => {
  const now = document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
  document.documentElement.dataset.theme = now === 'dark' ? 'light' : 'dark';
  localStorage.setItem('theme', document.documentElement.dataset.theme);
});
if (localStorage.getItem('theme')) document.documentElement.dataset.theme = localStorage.getItem('theme');
if (state.key) enter();
else $('key').focus();
