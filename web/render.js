// A model's text as a document fragment: markdown, code and maths. What a model says is never trusted: all of it
// goes through DOMPurify, maths through KaTeX's own nodes, and the page's policy lets no script of it run.
'use strict';

const MATH_MARK = '\uE000';
// Debian 12's DOMPurify (2.4.1+dfsg+~2.4.0-2+deb12u1), by a patch that went astray, asks sanitize() for the depth of a
// `shadowNode` that it never declares, where upstream asks whether FORCE_BODY is set. This one says no: it is not.
const shadowNode = Object.freeze({__depth: 0});

function takeMath(text) {
  const formulas = [];
  const keep = (tex, display) => `${MATH_MARK}${formulas.push({tex, display}) - 1}${MATH_MARK}`;
  const parts = text.replaceAll(MATH_MARK, '').split(/(```[\s\S]*?(?:```|$)|`[^`\n]*`)/);
  for (let i = 0; i < parts.length; i += 2) {  // code keeps its dollars
    parts[i] = parts[i]
      .replace(/\$\$([\s\S]+?)\$\$/g, (_, tex) => keep(tex, true))
      .replace(/\\\[([\s\S]+?)\\\]/g, (_, tex) => keep(tex, true))
      .replace(/\\\(([\s\S]+?)\\\)/g, (_, tex) => keep(tex, false))
      .replace(/(^|[^\\$\w])\$(?=\S)([^$\n]*?\S)\$(?![\w$])/g, (_, before, tex) => before + keep(tex, false));
  }
  return {text: parts.join(''), formulas};
}

function formulaNode({tex, display}) {
  const node = document.createElement(display ? 'div' : 'span');
  try {
    katex.render(tex, node, {displayMode: display, output: 'mathml', throwOnError: true, trust: false, maxExpand: 200, maxSize: 20});
  } catch {
    node.textContent = display ? `$$${tex}$$` : `$${tex}$`;
  }
  return node;
}

function putMathBack(root, formulas) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walker.nextNode()) if (walker.currentNode.data.includes(MATH_MARK)) nodes.push(walker.currentNode);
  for (const node of nodes) {
    const pieces = node.data.split(new RegExp(`${MATH_MARK}(\\d+)${MATH_MARK}`));
    node.replaceWith(...pieces.map((piece, i) => i % 2 && formulas[piece] ? formulaNode(formulas[piece]) : piece));
  }
}

function addCopyButtons(root) {
  for (const block of root.querySelectorAll('pre')) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'copy';
    button.textContent = 'Copy';
    button.addEventListener('click', async () => {
      await navigator.clipboard?.writeText(block.querySelector('code')?.textContent ?? '');
      button.textContent = 'Copied';
    });
    block.append(button);
  }
}

function plainText(text) {
  const plain = document.createElement('div');
  plain.style.whiteSpace = 'pre-wrap';
  plain.textContent = text;
  return plain;
}

// `finished`: code is coloured only when all of it is there.
function renderMarkdown(text, finished) {
  if (!window.marked || !window.DOMPurify) return plainText(text);  // built without them
  try {
    return renderWithLibraries(text, finished);
  } catch (error) {  // a thousand nested quotes, say, overflow the parser's stack
    console.warn(error);
    return plainText(text);
  }
}

function renderWithLibraries(text, finished) {
  const {text: rest, formulas} = takeMath(text);
  const fragment = DOMPurify.sanitize(marked.parse(rest, {mangle: false, headerIds: false, breaks: true}), {
    RETURN_DOM_FRAGMENT: true,
    USE_PROFILES: {html: true},
    FORBID_TAGS: ['template', 'style', 'form', 'input', 'textarea', 'select', 'button', 'img', 'picture', 'video', 'audio', 'dialog'],
    FORBID_ATTR: ['style', 'id', 'name', 'srcset', 'target'],
    ALLOW_DATA_ATTR: false,
  });
  for (const link of fragment.querySelectorAll('a[href]')) {
    link.rel = 'noopener noreferrer nofollow';
    link.target = '_blank';
  }
  if (window.katex) putMathBack(fragment, formulas);
  if (finished) {
    if (window.hljs) {
      for (const code of fragment.querySelectorAll('pre code')) {
        code.replaceChildren(code.textContent);  // it writes innerHTML: nothing but text may go in
        hljs.highlightBlock(code);
      }
    }
    addCopyButtons(fragment);
  }
  return fragment;
}
