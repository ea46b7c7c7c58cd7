// Runs the transformations of every table with Grafana's own code on answers of a real Prometheus (answers.json, kept by
// the test `dashboards::live`), and looks at the rows, their order, and the words in the cells.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { lastValueFrom } = require('rxjs');
const grafana = require('@grafana/data');

// Transformations look for a scene, and formats for a language, in the browser. Set after loading: other parts would look
// for a document too. Newer versions of Node have a navigator of their own.
globalThis.window = globalThis;
globalThis.navigator ??= { languages: ['en'], language: 'en' };

const { FieldType } = grafana;
// From where `run` starts it: the bundle that is run stands elsewhere.
const folder = path.join('..', '..', 'dashboards');
const answers = JSON.parse(fs.readFileSync('answers.json', 'utf8'));

// Some transformations go by two names there.
const transformers = new Map(Object.values(grafana.standardTransformers).map((it) => [it.id, it]));
grafana.standardTransformersRegistry.setInit(() =>
  [...transformers].map(([id, it]) => ({ id, name: it.name, transformation: async () => it }))
);

// What an override may set, without the editors of Grafana's pages: taken as it is written.
const settings = ['unit', 'decimals', 'mappings', 'thresholds', 'color', 'links', 'custom.width', 'custom.cellOptions'];
grafana.standardFieldConfigEditorRegistry.setInit(() =>
  settings.map((id) => ({
    id,
    path: id.replace('custom.', ''),
    name: id,
    isCustom: id.startsWith('custom.'),
    process: (value) => value,
    shouldApply: () => true,
  }))
);

const dashboards = fs
  .readdirSync(folder)
  .filter((it) => it.endsWith('.json'))
  .map((it) => JSON.parse(fs.readFileSync(path.join(folder, it), 'utf8')));
const panels = new Map(dashboards.flatMap((it) => it.panels).map((it) => [it.title, it]));

/**
 * Answers to the queries of a table, as the data source `prometheus` hands them to Grafana: a frame for each query, with
 * the time, a column for each label that any series has, and the value. An answer without series is a frame too, without
 * labels. This part of Grafana is not in a package that runs without the whole of it.
 */
function frames(answersOfPanel) {
  const refIds = Object.keys(answersOfPanel);
  return refIds.map((refId) => {
    const series = answersOfPanel[refId].result;
    const labels = [...new Set(series.flatMap((it) => Object.keys(it.metric).sort()))];
    const column = (name, type, values) => ({ name, type, config: {}, values });
    return {
      refId,
      length: series.length,
      fields: [
        column('Time', FieldType.time, series.map((it) => it.value[0] * 1000)),
        ...labels.map((label) => column(label, FieldType.string, series.map((it) => it.metric[label] ?? ''))),
        column(refIds.length > 1 ? `Value #${refId}` : 'Value', FieldType.number, series.map((it) => number(it.value[1]))),
      ],
    };
  });
}

const number = (text) => ({ '+Inf': Infinity, '-Inf': -Infinity })[text] ?? Number(text);

/** What a table shows of these answers: the names of its columns, and its rows by column as raw values and as text. */
async function show(title, answersOfPanel = answers[title], skipped = 0) {
  const panel = panels.get(title);
  // Grafana changes what it is given.
  const transformations = structuredClone(panel.transformations).slice(skipped);
  const transformed = await lastValueFrom(grafana.transformDataFrame(transformations, frames(answersOfPanel)));
  // A table shows the first frame.
  const [frame] = grafana.applyFieldOverrides({
    data: transformed.slice(0, 1),
    fieldConfig: panel.fieldConfig,
    replaceVariables: (it) => it,
    theme: grafana.createTheme(),
    timeZone: 'utc',
  });
  const columns = frame.fields.map((it) => grafana.getFieldDisplayName(it, frame));
  const rows = Array.from({ length: frame.length }, (_, index) =>
    Object.fromEntries(
      frame.fields.map((field, at) => {
        const raw = field.values[index];
        const display = field.display(raw);
        return [columns[at], { raw, text: grafana.formattedValueToString(display), color: display.color, at: index }];
      })
    )
  );
  return { frames: transformed.length, frame, columns, rows };
}

const texts = (rows, column) => rows.map((it) => it[column].text);

const tests = {
  async 'the answers are of the queries of today'() {
    for (const [title, panel] of panels) {
      for (const target of panel.type === 'table' ? panel.targets : []) {
        assert.equal(answers[title]?.[target.refId]?.expr, target.expr, `${title} ${target.refId}`);
      }
    }
  },

  async 'every credential is one row, the most urgent first, those without a date last'() {
    const { frames, columns, rows } = await show('Credentials by time left');
    assert.equal(frames, 1);
    assert.deepEqual(columns, [
      'Credential', 'Platform', 'Days left', 'Expires', 'Expiry', 'Alert', 'Probe', 'Last confirmed', 'Team', 'Kind',
    ]);
    assert.deepEqual(texts(rows, 'Credential').slice(0, 7), [
      'expired', 'critical', 'warning', 'soon', 'teamless', 'fine', 'MacBook 14" \\ (key) + 1',
    ]);
    assert.deepEqual(texts(rows, 'Credential').slice(7).sort(), ['forever', 'garbage', 'inventory', 'ops']);
    const days = rows.map((it) => it['Days left'].raw);
    assert.deepEqual(days, [...days].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)));
    assert.deepEqual(texts(rows, 'Days left').slice(7), ['No date', 'No date', 'No date', 'No date']);
    assert.match(rows[1]['Days left'].text, /^4\.0 days?$/);
    assert.match(rows[1].Expires.text, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
  },

  async 'each state has a word'() {
    const { rows } = await show('Credentials by time left');
    const row = Object.fromEntries(rows.map((it) => [it.Credential.text, it]));
    const words = (name) => ['Expiry', 'Alert', 'Probe'].map((it) => row[name][it].text);
    assert.deepEqual(words('expired'), ['Expired', 'Critical', 'Failing']);
    assert.deepEqual(words('critical'), ['Dated', 'Critical', 'OK']);
    assert.deepEqual(words('warning'), ['Dated', 'Warning', 'OK']);
    assert.deepEqual(words('soon'), ['Dated', 'Info', 'OK']);
    assert.deepEqual(words('fine'), ['Dated', 'None', 'OK']);
    assert.equal(words('forever')[0], 'Never');
    assert.equal(words('garbage')[0], 'Unknown');
    assert.deepEqual(words('ops'), ['Has none', 'None', 'OK']);
    assert.deepEqual(words('inventory'), ['Has none', 'None', 'OK']);
    assert.equal(row.ops.Expires.text, row.forever.Expires.text);
    assert.equal(row.ops.Kind.text, 'login');
    assert.equal(row.garbage['Last confirmed'].text, 'Never');
    assert.equal(row.teamless.Team.text, '');
    assert.equal(row.fine.Team.text, 'owners');
    assert.notEqual(row.critical['Days left'].color, row.warning['Days left'].color);
  },

  async 'a link leads from a row to its credential'() {
    const { frame, rows } = await show('Credentials by time left');
    for (const row of rows) {
      const proxy = grafana.getFieldDisplayValuesProxy({ frame, rowIndex: row.Credential.at });
      assert.equal(String(proxy.Credential), row.Credential.text);
      assert.equal(String(proxy.Platform), row.Platform.text);
    }
    for (const title of ['Credentials by time left', 'Failing now']) {
      const credential = panels.get(title).fieldConfig.overrides.find((it) => it.matcher.options === 'Credential');
      const [link] = credential.properties.find((it) => it.id === 'links').value;
      assert.match(link.url, /^\/d\/ece-credential-detail\?.*var-platform=\$\{__data\.fields\.Platform:percentencode\}/);
      assert.match(link.url, /var-credential=\$\{__data\.fields\.Credential:percentencode\}$/);
    }
  },

  async 'a table is whole when nothing has a date and nothing was probed'() {
    // Nothing is dated, nothing was probed: the first minutes of an installation where nothing works yet.
    const none = structuredClone(answers['Credentials by time left']);
    for (const series of none.A.result.concat(none.B.result)) {
      series.value[1] = '+Inf';
    }
    for (const series of none.E.result) {
      series.value[1] = '-1';
    }
    const { rows } = await show('Credentials by time left', none);
    assert.equal(rows.length, answers['Credentials by time left'].G.result.length);
    assert.deepEqual([...new Set(texts(rows, 'Days left'))], ['No date']);
    assert.deepEqual([...new Set(texts(rows, 'Probe'))], ['Not yet']);
  },

  async 'what the queries and transformations are careful about matters'() {
    const title = 'Credentials by time left';
    const credentials = answers[title].G.result.length;
    // With the times of the answers, rows do not come together.
    assert.ok(credentials < (await show(title, answers[title], 1)).rows.length);
    // A query that finds nothing has no labels, and without labels nothing is merged: so each finds every credential.
    const torn = structuredClone(answers[title]);
    torn.A.result = [];
    assert.ok(1 < (await show(title, torn)).frames);
    for (const [name, panel] of Object.entries(answers)) {
      const found = new Set(Object.values(panel).map((it) => it.result.length));
      assert.equal(found.size, 1, `${name}: its queries find different numbers of things`);
    }
  },

  async 'an exporter that is down is still a row'() {
    const down = structuredClone(answers.Instances);
    for (const [refId, answer] of Object.entries(down)) {
      answer.result = refId === 'A' ? answer.result.map((it) => ({ ...it, value: [it.value[0], '0'] })) : [];
    }
    const { columns, rows } = await show('Instances', down);
    assert.equal(rows.length, 2);
    assert.ok(columns.includes('Instance'), String(columns));
    assert.deepEqual(texts(rows, 'Up'), ['Down', 'Down']);
  },

  async 'nothing that fails is no row'() {
    const none = structuredClone(answers['Failing now']);
    for (const answer of Object.values(none)) {
      answer.result = [];
    }
    const { rows } = await show('Failing now', none);
    assert.deepEqual(rows, []);
    assert.equal(panels.get('Failing now').fieldConfig.defaults.noValue, 'Nothing fails');
  },

  async 'every failing credential is one row with its reason in words, the longest failing first'() {
    const { frames, columns, rows } = await show('Failing now');
    assert.equal(frames, 1);
    assert.deepEqual(columns, ['Platform', 'Credential', 'Reason', 'HTTP status', 'Last success', 'Next probe']);
    assert.deepEqual(texts(rows, 'Credential'), ['garbage', 'expired', 'MacBook 14" \\ (key) + 1']);
    assert.equal(rows[0].Reason.text, 'header_invalid: the expiry in the answer is no date');
    assert.equal(rows[1].Reason.text, 'unauthorized: ECE does not accept the key');
    assert.equal(rows[1]['HTTP status'].text, '401');
    assert.equal(rows[0]['Last success'].text, 'Never');
  },

  async 'two exporters make one row of each platform'() {
    const { frames, columns, rows } = await show('Platforms');
    assert.equal(frames, 1);
    assert.deepEqual(columns, [
      'Platform', 'URL', 'Answers', 'Rate limited', 'Credentials', 'Probes failing', 'Clock difference', 'Certificate', 'License',
    ]);
    assert.equal(rows.length, 1);
    assert.equal(rows[0].Answers.text, 'Yes');
    assert.equal(rows[0].Credentials.text, '11');
    assert.equal(rows[0]['Rate limited'].text, 'No');
    assert.equal(rows[0]['Probes failing'].text, '3');
    // Nobody watches them there: a word, not an infinity.
    assert.equal(rows[0].Certificate.text, 'No date');
    assert.equal(rows[0].License.text, 'No date');
  },

  async 'every listed key is one row with its owner, the next to expire first, those without a date last'() {
    const title = 'Listed keys by time left';
    const { frames, columns, rows } = await show(title);
    assert.equal(frames, 1);
    assert.deepEqual(columns, ['Days left', 'Expires', 'Owner', 'Description', 'Key id', 'Held as', 'Platform']);
    const row = Object.fromEntries(rows.map((it) => [it.Description.text, it]));
    // One of each exporter: their platforms are not really the same, and so the ids are not.
    assert.equal(texts(rows, 'Description').filter((it) => it === 'ci pipeline').length, 2);
    assert.match(row['ci pipeline']['Days left'].text, /^1\.7 weeks$/);
    assert.equal(row['ci pipeline'].Owner.text, 'marc');
    assert.equal(row['ci pipeline']['Held as'].text, '');
    assert.equal(row.warning['Held as'].text, 'warning');
    assert.equal(row.expired, undefined);
    const days = rows.map((it) => it['Days left'].raw);
    assert.deepEqual(days, [...days].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)));
    const last = rows[rows.length - 1];
    assert.deepEqual([last['Days left'].text, last.Expires.text], ['No date', 'No date']);
    assert.equal(row['made meanwhile']['Days left'].text, 'No date');
    assert.match(panels.get(title).fieldConfig.defaults.noValue, /^No list of keys is configured/);
  },

  async 'each exporter is one row'() {
    const { frames, columns, rows } = await show('Instances');
    assert.equal(frames, 1);
    assert.deepEqual(columns, [
      'Job', 'Instance', 'Up', 'Version', 'Revision', 'Rust', 'Started', 'Configuration', 'Configuration loaded',
      'Store written', 'Credentials',
    ]);
    assert.equal(rows.length, 2);
    assert.deepEqual(texts(rows, 'Up'), ['Up', 'Up']);
    assert.deepEqual(texts(rows, 'Configuration'), ['Good', 'Good']);
  },

  async 'each channel is one row'() {
    const { frames, columns, rows } = await show('Receivers');
    assert.equal(frames, 1);
    assert.deepEqual(columns, [
      'Receiver', 'Channel', 'Waiting', 'Waiting since', 'Last delivered', 'Messages in 24 h', 'Lost in 24 h',
    ]);
    assert.deepEqual(texts(rows, 'Channel').sort(), ['email', 'webhook']);
    assert.equal(rows[0]['Waiting since'].text, 'Nothing waits');
    for (const row of rows) {
      for (const column of ['Waiting', 'Messages in 24 h', 'Lost in 24 h']) {
        assert.match(row[column].text, /^\d+$/, column);
        assert.ok(Number.isInteger(row[column].raw), `${column}: ${row[column].raw}`);
      }
    }
  },
};

(async () => {
  let failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test();
    } catch (error) {
      failed += 1;
      console.error(`FAILED: ${name}\n${error.message}\n`);
    }
  }
  if (failed) {
    process.exit(1);
  }
  console.log(`tables: ${Object.keys(tests).length} tests passed`);
})();
