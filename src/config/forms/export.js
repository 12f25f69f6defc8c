// What node runs to learn what a file of apps exports: `node -e THIS -- FILE`. It writes one marked line to standard
// output, after whatever the file may have left there: the export as JSON, or why there is none and where.
'use strict';
const [, file] = process.argv;

// The line is ours alone: what the file prints goes to standard error.
const write = process.stdout.write.bind(process.stdout);
process.stdout.write = process.stderr.write.bind(process.stderr);

const say = (mark, value) => write(`\n\x1epm3 ${mark} ${value}\n`, () => process.exit(0));

// JSON has no word for a function or for NaN, and would leave them out; as a bare word they are told.
const kept = (key, value) => {
  if (typeof value === 'number' && !Number.isFinite(value)) return '\0pm3 NaN';
  return ['function', 'symbol', 'bigint'].includes(typeof value) ? '\0pm3 ' + typeof value : value;
};

// A syntax error begins with its place and mostly marks the column; others have a first frame of the user's own.
const place = stack => {
  const head = /^((?:file:\/\/)?\/.+):(\d+)\n(?:.*\n( *)\^)?/.exec(stack);
  const frames = stack.split('\n').filter(line => /^ +at /.test(line) && !line.includes('node:'));
  const frame = /((?:file:\/\/)?\/[^()]+):(\d+):(\d+)\)?$/.exec(frames[0] || '');
  const [, at, line, col] = head ? [...head.slice(0, 3), (head[3] || '').length + 1] : frame || [];
  if (!at) return {};
  return { file: at.startsWith('file:') ? require('url').fileURLToPath(at) : at, line: +line, col: +col };
};

const fail = error => {
  let stack = String((error && error.stack) || '');
  if (error instanceof SyntaxError && !place(stack).file) {
    // Of a module's own syntax error node tells the place only when it prints it.
    const checked = require('child_process').spawnSync(process.execPath, ['--check', file], { encoding: 'utf8' });
    stack = checked.stderr || stack;
  }
  const why = error instanceof Error ? `${error.name}: ${error.message}` : `it throws ${String(error)}`;
  say('fails', JSON.stringify({ why: why.split('\n')[0], ...place(stack) }));
};

process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);

(async () => {
  const module = await import(require('url').pathToFileURL(file));
  let it = module.default === undefined ? module : module.default;
  if (it && it.__esModule && it.default !== undefined) it = it.default;
  it = await (typeof it === 'function' ? it() : it);
  say('exports', JSON.stringify(it === undefined ? null : it, kept).replace(/"\\u0000pm3 (\w+)"/g, '$1'));
})().catch(fail);
