// Type-checks each dashboard as a literal of the type in dashboard.ts, in memory; then makes sure, on planted faults, that
// the type can refuse.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const ts = require('typescript');

const here = __dirname;
const folder = path.join(here, '..', '..', 'dashboards');

const options = {
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'],
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  types: [],
};

/** What TypeScript says of each text as a dashboard. */
function check(texts) {
  const virtual = new Map(
    Object.entries(texts).map(([name, text]) => [
      path.join(here, `${name}.ts`),
      `import type { Dashboard } from './dashboard';\nexport const it: Dashboard =\n${text};\n`,
    ])
  );
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists, readFile } = host;
  host.fileExists = (name) => virtual.has(name) || fileExists(name);
  host.readFile = (name) => virtual.get(name) ?? readFile(name);
  host.getSourceFile = (name, ...rest) =>
    virtual.has(name)
      ? ts.createSourceFile(name, virtual.get(name), options.target)
      : getSourceFile.call(host, name, ...rest);
  const program = ts.createProgram([path.join(here, 'dashboard.ts'), ...virtual.keys()], options, host);
  const complaints = {};
  for (const diagnostic of ts.getPreEmitDiagnostics(program)) {
    const name = diagnostic.file ? path.basename(diagnostic.file.fileName, '.ts') : 'all';
    // Two lines stand before the dashboard.
    const line = diagnostic.file
      ? diagnostic.file.getLineAndCharacterOfPosition(diagnostic.start).line - (name === 'dashboard' ? -1 : 1)
      : 0;
    const text = ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n').slice(0, 2000);
    (complaints[name] ??= []).push(`${name}:${line}: ${text}`);
  }
  return complaints;
}

const files = fs.readdirSync(folder).filter((it) => it.endsWith('.json'));
const read = (file) => JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8'));
const texts = Object.fromEntries(files.map((it) => [it.replace('.json', ''), fs.readFileSync(path.join(folder, it), 'utf8')]));

/** Faults that have been made, each in a dashboard that is right otherwise. */
const plants = {
  'a key that Grafana does not know': (it) => (it.style = 'dark'),
  'a misspelt option': (it) => {
    it.panels[0].options.textmode = it.panels[0].options.textMode;
    delete it.panels[0].options.textMode;
  },
  'a value that is none of an enum': (it) => (it.panels[0].options.colorMode = 'foreground'),
  'a number that is none of an enum': (it) => (it.templating.list[1].refresh = 3),
  'a choice of the wrong type': (it) => (it.templating.list[1].current.text = 7),
  'an unknown key of a variable': (it) => (it.templating.list[1].definition = 'x'),
  'an unknown mapping': (it) => (it.panels.find((p) => p.type === 'state-timeline').fieldConfig.defaults.mappings[0].type = 'values'),
  'an unknown key of an annotation': (it) => (it.annotations.list[0].color = 'red'),
  'an unknown key of a query': (it) => (it.panels[0].targets[0].legend = 'x'),
  'an unknown drawing style': (it) => (it.panels.find((p) => p.type === 'timeseries').fieldConfig.defaults.custom.drawStyle = 'dots'),
  'an unknown setting of a cell': (it) =>
    (it.panels.find((p) => p.type === 'table').fieldConfig.overrides[0].properties[0] = { id: 'units', value: 'd' }),
  'an unknown transformation': (it) => (it.panels.find((p) => p.type === 'table').transformations[1].id = 'join'),
};
const planted = Object.entries(plants).map(([, plant]) => {
  const changed = read('ece-expiry-overview.json');
  plant(changed);
  return JSON.stringify(changed, null, 2);
});
planted.forEach((text, index) => (texts[`planted-${index}`] = text));

const complaints = check(texts);
let failed = false;
for (const [name, lines] of Object.entries(complaints)) {
  if (!name.startsWith('planted-')) {
    failed = true;
    console.error(lines.join('\n'));
  }
}
Object.keys(plants).forEach((what, index) => {
  if (!complaints[`planted-${index}`]) {
    failed = true;
    console.error(`not found: ${what}`);
  }
});
if (failed || files.length !== 3) {
  process.exit(1);
}
console.log(`form: ${files.length} dashboards fit the types of Grafana; ${planted.length} planted faults are found`);
