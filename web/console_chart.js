// The console's charts: numbers as an SVG picture with their table under it. Knows no server.
'use strict';

const SVG = 'http://www.w3.org/2000/svg';
// As wide as it is shown, so that its letters keep their size on a phone; read anew with every drawing.
const CHART = {
  get width() { return Math.round(Math.min(1200, Math.max(300, document.getElementById('view')?.clientWidth || 720))); },
  height: 200, left: 44, bottom: 22, top: 10,
};

function shape(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function short(value) {
  const size = Math.abs(value);
  for (const [limit, letter] of [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) {
    if (size >= limit) return `${(value / limit).toFixed(size / limit < 10 ? 1 : 0)}${letter}`;
  }
  return Number.isInteger(value) ? String(value) : value.toFixed(size < 1 ? 3 : 1);
}

// The next of 1, 2, 5, 10 … that is no smaller.
function roundTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}

// `points`: [{label, value}], oldest first; a bar with `parts`, [{name, value}], is made of these, each of its class.
// `kind`: "bar" or "line".
function chart(title, points, kind) {
  const inner = {width: CHART.width - CHART.left - 8, height: CHART.height - CHART.top - CHART.bottom};
  const top = roundTop(Math.max(...points.map((point) => point.value), 0));
  const sum = points.reduce((all, point) => all + point.value, 0);
  const picture = shape('svg', {viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: 'img',
    'aria-label': `${title}: ${points.length} values, highest ${short(Math.max(...points.map((p) => p.value), 0))}${kind === 'bar' ? `, sum ${short(sum)}` : ''}`});
  const whole = points.every((point) => Number.isInteger(point.value)) && top % 2 === 1;  // no half of a thing
  for (const part of whole ? [0, 1] : [0, 0.5, 1]) {
    const y = CHART.top + inner.height * (1 - part);
    picture.append(shape('line', {class: 'grid-line', x1: CHART.left, x2: CHART.width - 8, y1: y, y2: y}),
      shape('text', {x: CHART.left - 6, y: y + 4, 'text-anchor': 'end'}, short(top * part)));
  }
  const step = inner.width / Math.max(points.length, 1);
  const every = Math.ceil(points.length / Math.min(12, CHART.width / 90));
  const path = [];
  points.forEach((point, i) => {
    const height = inner.height * point.value / top;
    const x = CHART.left + i * step;
    if (kind === 'bar') {
      let y = CHART.top + inner.height;
      for (const part of point.parts ?? [{value: point.value}]) {
        const tall = inner.height * part.value / top;
        y -= tall;
        const bar = shape('rect', {class: part.name ? `bar ${part.name}` : 'bar', x: x + step * 0.1, width: step * 0.8, y, height: tall});
        bar.append(shape('title', {}, `${point.label}: ${part.value.toLocaleString('en')}${part.name ? ` ${part.name}` : ''}`));
        picture.append(bar);
      }
    } else {
      path.push(`${(x + step / 2).toFixed(1)},${(CHART.top + inner.height - height).toFixed(1)}`);
    }
    if (i % every === 0) picture.append(shape('text', {x: x + step / 2, y: CHART.height - 6, 'text-anchor': 'middle'}, point.label));
  });
  if (path.length) picture.append(shape('polyline', {class: 'line', points: path.join(' ')}));
  return picture;
}

// Every span from `since` to now, so that what was not used shows as nothing. Seconds, UTC.
function spanStarts(per, count) {
  const now = new Date();
  const starts = [];
  for (let i = count - 1; i >= 0; --i) {
    if (per === 'month') starts.push(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - i, 1) / 1000);
    else if (per === 'day') starts.push(Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate() - i) / 1000);
    else starts.push(Math.floor(now / 60000) * 60 - i * 60);
  }
  return starts;
}

function spanLabel(per, start) {
  const text = new Date(start * 1000).toISOString();
  return per === 'month' ? text.slice(0, 7) : per === 'day' ? text.slice(5, 10) : text.slice(11, 16);
}
