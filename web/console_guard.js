// The console's view of the guard: verdicts by day, which accounts stand in which verdicts, marked accounts, and the
// trail. What the server tells is put in as text, as everywhere in the console.
'use strict';

const LEVELS = ['review', 'throttle', 'suspend'];  // rising
const drawnEach = 40;  // accounts in one picture

async function guardView() {
  const [answer, accounts] = await Promise.all([api('GET', 'guard?limit=1000'), list('accounts')]);
  const names = new Map(accounts.map((account) => [account.id, account.name]));
  const verdicts = answer.data.filter((each) => each.kind === 'verdict' && !each.unreadable);
  return [element('section', {'aria-labelledby': 'verdicts-title'}, element('h2', {id: 'verdicts-title'}, 'Verdicts'), ...verdictDays(verdicts)),
    element('section', {'aria-labelledby': 'together-title'}, element('h2', {id: 'together-title'}, 'Accounts that stand together'), clusterGraph(verdicts, names)),
    element('section', {}, markTable(answer.marks, names)),
    element('section', {}, trailTable(answer.data, names),
      answer.head.entries ? element('p', {class: 'soft'}, 'Head, for ', element('code', {}, 'retort guard verify'), ': ', element('code', {}, `${answer.head.entries}:${answer.head.hash}`)) : null)];
}

function verdictDays(verdicts) {
  const days = spanStarts('day', COUNTS.day).map((start) => {
    const mine = verdicts.filter((each) => each.time >= start && each.time < start + 86400);
    const parts = LEVELS.map((level) => ({name: level, value: mine.filter((each) => each.entry.level === level).length}));
    return {label: spanLabel('day', start), value: mine.length, parts};
  });
  const some = days.filter((day) => day.value);
  if (!some.length) return [element('p', {class: 'empty'}, `No verdict in the last ${COUNTS.day} days.`)];
  const key = element('p', {class: 'soft key'}, 'By day, UTC: ', ...LEVELS.flatMap((level) => {
    const square = shape('svg', {viewBox: '0 0 10 10', class: 'swatch', 'aria-hidden': 'true'});
    square.append(shape('rect', {class: `bar ${level}`, width: 10, height: 10}));
    return [square, `${level} `];
  }));
  return [key, chart('Verdicts by day', days, 'bar'), element('details', {}, element('summary', {}, 'The same as a table'),
    table('Verdicts by day', [['Day'], ...LEVELS.map((level) => [level, 'number'])], some.map((day) => [day.label, ...day.parts.map((part) => String(part.value))])))];
}

// Verdicts that share accounts are one group, the newest group first.
function verdictGroups(verdicts) {
  const groups = [];
  for (const verdict of verdicts) {
    const accounts = new Set(Array.isArray(verdict.entry.accounts) ? verdict.entry.accounts : []);
    const mine = groups.filter((group) => [...accounts].some((account) => group.accounts.has(account)));
    const group = mine[0] ?? {verdicts: [], accounts: new Set()};
    if (!mine.length) groups.push(group);
    for (const other of mine.slice(1)) {
      group.verdicts.push(...other.verdicts);
      other.accounts.forEach((account) => group.accounts.add(account));
      groups.splice(groups.indexOf(other), 1);
    }
    group.verdicts.push(verdict);
    accounts.forEach((account) => group.accounts.add(account));
  }
  return groups;
}

// A picture each group: its accounts around it, its verdicts inside, a line where an account stands in a verdict.
function clusterGraph(verdicts, names) {
  if (!verdicts.length) return element('p', {class: 'empty'}, 'Clusters: none yet.');
  const groups = verdictGroups(verdicts.slice(0, 100));
  const first = 12;
  const holder = element('div', {class: 'clusters'}, ...groups.slice(0, first).map((group) => clusterPicture(group, names)));
  return groups.length > first ? element('div', {}, holder, element('p', {class: 'soft'}, `The newest ${first} of ${groups.length} groups; the trail below has all.`)) : holder;
}

function clusterPicture(group, names) {
  const size = 240;
  const most = 6;  // verdicts in one picture
  const middle = size / 2;
  const shown = [...group.verdicts].sort((a, b) => b.number - a.number).slice(0, most);
  const place = (radius, i, count) => ({x: middle + radius * Math.sin(2 * Math.PI * i / count), y: middle - radius * Math.cos(2 * Math.PI * i / count)});
  const hubs = shown.map((verdict, i) => ({verdict, accounts: new Set(verdict.entry.accounts), ...place(shown.length > 1 ? 48 : 0, i, shown.length)}));
  // Whoever stands in the same verdicts is drawn side by side.
  const standing = (account) => hubs.map((hub) => hub.accounts.has(account) ? '1' : '0').join('');
  const drawn = [...group.accounts].filter((account) => hubs.some((hub) => hub.accounts.has(account)))
    .map((account) => ({account, key: standing(account)})).sort((a, b) => b.key.localeCompare(a.key));
  const step = Math.max(1, drawn.length / drawnEach);
  const dots = Array.from({length: Math.min(drawnEach, drawn.length)}, (_, i) => drawn[Math.floor(i * step)]);
  const picture = shape('svg', {viewBox: `0 0 ${size} ${size}`, 'aria-hidden': 'true'});
  const circles = dots.map((dot, i) => {
    const at = place(middle - 10, i, dots.length);
    for (const hub of hubs) if (hub.accounts.has(dot.account)) picture.append(shape('line', {class: 'grid-line', x1: hub.x, y1: hub.y, x2: at.x, y2: at.y}));
    const circle = shape('circle', {class: 'bar', cx: at.x, cy: at.y, r: 4});
    circle.append(shape('title', {}, names.get(dot.account) ?? dot.account));
    return circle;
  });
  picture.append(...circles);
  for (const {verdict, x, y} of hubs) {
    const circle = shape('circle', {class: `bar ${verdict.entry.level}`, cx: x, cy: y, r: 13});
    circle.append(shape('title', {}, `verdict ${verdict.entry.verdict}: ${verdict.entry.level}`));
    picture.append(circle, shape('text', {class: 'in-hub', x, y: y + 4, 'text-anchor': 'middle'}, verdict.entry.verdict ?? '?'));
  }
  const count = Math.max(group.accounts.size, ...group.verdicts.map(({entry}) => Number(entry.accounts_raised) || 0));
  const more = group.verdicts.length - shown.length;
  return element('figure', {}, picture, element('figcaption', {},
    element('strong', {}, `${count.toLocaleString('en')} account${count === 1 ? '' : 's'}`), dots.length < count ? `, ${dots.length} drawn` : '',
    element('div', {class: 'soft'}, shown.map(({entry}) => `${entry.verdict ?? '?'} ${entry.level}${entry.dry_run ? ', dry run' : ''}`).join('; ') + (more ? `; ${more} more` : ''))));
}

// A table of what a text is found in, so many rows at first.
function longTable(caption, columns, all, first, words, rowOf) {
  const holder = element('div');
  const wanted = input({type: 'search', 'aria-label': `Find in: ${caption}`, placeholder: 'Find'});
  let count = first;
  const draw = () => {
    const text = wanted.value.trim().toLowerCase();
    const found = text ? all.filter((each) => words(each).toLowerCase().includes(text)) : all;
    const rest = found.length - count;
    holder.replaceChildren(found.length || !text ? table(text ? `${caption}: ${found.length.toLocaleString('en')} found` : caption, columns, found.slice(0, count).map(rowOf))
      : element('p', {class: 'empty'}, `Nothing in “${caption}” has “${wanted.value.trim()}” in it.`));
    if (rest > 0) {
      holder.append(element('p', {class: 'more'}, button(`Show ${Math.min(rest, 100)} of ${rest.toLocaleString('en')} more`, `Show more: ${caption}`, () => { count += 100; draw(); })));
    }
  };
  wanted.addEventListener('input', () => { count = first; draw(); });
  draw();
  return element('div', {}, all.length > first ? element('div', {class: 'row bar find'}, wanted) : null, holder);
}

// Appeals that wait come first, then what weighs most.
function markTable(marks, names) {
  const name = (mark) => names.get(mark.account) ?? mark.account;
  const waits = (mark) => Boolean(mark.appeal) && !mark.allowed;
  const rank = (mark) => (waits(mark) ? 10 : 0) + LEVELS.indexOf(mark.level);
  const sorted = [...marks].sort((a, b) => rank(b) - rank(a) || b.since - a.since || name(a).localeCompare(name(b)));
  const facts = [...LEVELS].reverse().map((level) => [marks.filter((mark) => mark.level === level && !mark.allowed).length, `at ${level}`]);
  facts.push([marks.filter((mark) => mark.allowed).length, 'allowed'], [marks.filter(waits).length, 'with an appeal that waits']);
  const caption = ['Marked accounts', facts.filter(([count]) => count).map(([count, what]) => `${count.toLocaleString('en')} ${what}`).join(', ')].filter(Boolean).join(': ');
  return longTable(caption, [['Account'], ['Stands', 'tight'], ['Taken'], ['Why'], ['', 'tight']], sorted, 10,
    (mark) => `${name(mark)} ${mark.account} ${mark.level} ${mark.reason} ${mark.appeal} ${mark.allowed}`,
    (mark) => [[name(mark), element('div', {class: 'soft'}, element('code', {}, mark.account))],
      mark.allowed ? 'allowed' : [levelBadge(mark.level || 'none'), element('div', {class: 'soft'}, when(mark.since).slice(0, 10))],
      mark.allowed ? 'nothing' : takenBy(mark),
      [mark.allowed ? `${mark.allowed} (${mark.allowed_by})` : mark.reason, mark.appeal ? element('div', {class: 'appeal'}, element('strong', {}, 'Appeal: '), mark.appeal) : null].filter(Boolean),
      mark.allowed ? button('End', `End the allowance of ${name(mark)}`, () => decide(mark.account, name(mark), 'disallow'))
        : button('Allow', `Allow ${name(mark)}`, () => decide(mark.account, name(mark), 'allow'))]);
}
const levelBadge = (level) => element('span', {class: `badge ${LEVELS.includes(level) ? level : ''}`}, level);

function trailTable(entries, names) {
  const about = ({kind, entry}) => kind === 'verdict' ? `${entry.accounts_raised ?? '?'} raised of ${entry.cluster_accounts ?? '?'}` : names.get(entry.account) ?? entry.account ?? '';
  const why = (each) => {
    const {kind, entry, unreadable} = each;
    if (unreadable) return element('span', {class: 'bad'}, `unreadable: ${unreadable}`);
    if (kind === 'policy') return `${entry.dry_run ? 'a dry run' : 'a policy'} applied, ${entry.accounts_changed} accounts changed`;
    return kind === 'verdict' ? [evidenceOf(entry), verdictDetails(entry, names)] : `${entry.reason ?? entry.text ?? ''}${entry.by ? ` (${entry.by})` : ''}`;
  };
  return longTable('Trail, the newest first', [['Entry', 'tight'], ['Time, UTC', 'tight'], ['Kind', 'tight'], ['Level', 'tight'], ['Accounts'], ['Why']], entries, 10,
    (each) => `${each.number} ${each.kind} ${each.unreadable ?? `${about(each)} ${JSON.stringify(each.entry)}`}`,
    (each) => [String(each.number), when(each.time), each.kind, each.kind === 'verdict' && !each.unreadable
      ? [levelBadge(each.entry.level), each.entry.dry_run ? element('div', {class: 'soft'}, 'dry run') : null, each.entry.held_back ? element('div', {class: 'soft'}, each.entry.held_back) : null].filter(Boolean) : '',
    each.unreadable ? '' : about(each), why(each)]);
}

// All evidence of a verdict, and whom it names.
function verdictDetails(entry, names) {
  const evidence = Object.entries(entry.evidence ?? {}).filter(([, z]) => typeof z === 'number').sort((a, b) => b[1] - a[1]);
  const named = Array.isArray(entry.accounts) ? entry.accounts : [];
  const all = Number(entry.accounts_raised) || named.length;
  const details = element('details', {}, element('summary', {}, 'Evidence and accounts'));
  // Made when it is opened: a trail has hundreds.
  details.addEventListener('toggle', () => details.append(
    element('table', {class: 'evidence'}, element('caption', {}, 'Evidence, in deviations'), element('tbody', {}, ...evidence.map(([kind, z]) => element('tr', {},
      element('th', {scope: 'row'}, kind.replaceAll('_', ' ')), element('td', {}, meter(z)), element('td', {class: 'number'}, z.toFixed(1)))))),
    element('p', {class: 'soft'}, `${(entry.requests ?? 0).toLocaleString('en')} requests, score ${typeof entry.score === 'number' ? entry.score.toFixed(1) : 'unknown'}${entry.exempt ? `, ${entry.exempt} exempt by their plan` : ''}.`),
    element('p', {class: 'names'}, `${all > named.length ? `The first ${named.length} of ${all.toLocaleString('en')} accounts` : 'Accounts'}: ${named.map((id) => names.get(id) ?? id).join(', ') || 'none'}.`)), {once: true});
  return details;
}
function meter(z) {
  const full = 20;
  const picture = shape('svg', {viewBox: '0 0 100 8', class: 'meter', preserveAspectRatio: 'none', 'aria-hidden': 'true'});
  picture.append(shape('rect', {class: 'bar', width: 100 * Math.min(Math.max(z, 0), full) / full, height: 8}));
  return picture;
}

function evidenceOf(entry) {
  const number = (value) => typeof value === 'number' ? value.toExponential(1) : 'unknown';
  const strong = Object.entries(entry.evidence ?? {}).filter(([, z]) => typeof z === 'number' && z > 3).sort((a, b) => b[1] - a[1]).slice(0, 5);
  return `${entry.detector ?? 'no detector'}, p ${number(entry.p)}${strong.map(([name, z]) => `, ${name.replaceAll('_', ' ')} ${z.toFixed(0)}`).join('')}`;
}
function takenBy(mark) {
  return [mark.review && 'review', mark.requests_per_minute >= 0 && `${mark.requests_per_minute} requests a minute`, mark.tokens_per_day >= 0 && `${mark.tokens_per_day.toLocaleString('en')} tokens a day`,
    mark.no_logprobs && 'no logprobs', mark.reasoning && `reasoning ${mark.reasoning}`, mark.watermark && 'watermark', mark.twins > 1 && `twins × ${mark.twins}`].filter(Boolean).join(', ') || 'nothing';
}
async function decide(account, name, action) {
  const reason = input({name: 'reason', required: true, maxlength: 500});
  const by = input({name: 'by', required: true, maxlength: 200});
  const fields = action === 'allow' ? [labelled('Reason', reason), labelled('By', by)] : [labelled('By', by)];
  if (await ask(`${action === 'allow' ? 'Allow' : 'End the allowance of'} ${name}?`, action === 'allow' ? 'Allow' : 'End', ...fields)) {
    act(action === 'allow' ? 'The account is allowed.' : 'The allowance is ended.', () => api('POST', `accounts/${account}/${action}`, {reason: reason.value, by: by.value}));
  }
}
