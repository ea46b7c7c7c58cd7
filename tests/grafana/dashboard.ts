// The form of our dashboards, put together from Grafana's own types, so that a key that Grafana does not know, or a value
// that it does not take, is an error. Where Grafana's types leave something open, it is closed here to what we use.

import type * as g from '@grafana/schema';
import type * as BarGauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as Stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as StateTimeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as Table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as Text from '@grafana/schema/dist/esm/raw/composable/text/panelcfg/x/TextPanelCfg_types.gen';
import type * as TimeSeries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** JSON holds the values of enums, TypeScript wants their members: this turns each enum into the union of its values. */
type Json<T> = T extends string
  ? `${T}`
  : T extends number
    ? `${number}` extends `${T}`
      ? number
      : `${T}` extends `${infer N extends number}`
        ? N
        : never
    : T extends ReadonlyArray<infer U>
      ? Array<Json<U>>
      : T extends object
        ? { [K in keyof T]: Json<T[K]> }
        : T;

interface Datasource {
  type: 'prometheus';
  uid: '${datasource}';
}

/** A query as the data source `prometheus` takes it; its package has no types that can be had without the whole of Grafana. */
interface Query {
  datasource: Datasource;
  editorMode: 'code';
  expr: string;
  format: 'time_series' | 'table';
  instant: boolean;
  interval?: string;
  legendFormat?: string;
  range: boolean;
  refId: string;
}

/** What the data source `prometheus` adds to an annotation. */
interface PrometheusAnnotation {
  expr: string;
  step: string;
  tagKeys: string;
  textFormat: string;
  titleFormat: string;
  useValueForTime: boolean;
}

interface DataLink {
  targetBlank: boolean;
  title: string;
  url: string;
}

/** Grafana leaves open what an override may set. */
type Property =
  | { id: 'unit'; value: string }
  | { id: 'decimals'; value: number }
  | { id: 'color'; value: g.FieldColor }
  | { id: 'mappings'; value: g.ValueMapping[] }
  | { id: 'thresholds'; value: g.ThresholdsConfig }
  | { id: 'links'; value: DataLink[] }
  | { id: 'custom.width'; value: number }
  | { id: 'custom.cellOptions'; value: g.TableCellOptions }
  | { id: 'custom.lineStyle'; value: g.LineStyle }
  | { id: 'custom.lineWidth'; value: number };

interface Override {
  matcher: { id: 'byName' | 'byRegexp'; options: string };
  properties: Property[];
}

type Fields<Custom> = {
  defaults: Omit<g.FieldConfig, 'custom' | 'links'> & { links?: DataLink[] } & ([Custom] extends [never] ? unknown : { custom: Custom });
  overrides: Override[];
};

interface Organize {
  id: 'organize';
  options: { excludeByName: Record<string, boolean>; indexByName: Record<string, number>; renameByName: Record<string, string> };
}
interface Merge {
  id: 'merge';
  options: Record<string, never>;
}
interface SortBy {
  id: 'sortBy';
  options: { fields: Record<string, never>; sort: Array<{ desc: boolean; field: string }> };
}

type Shown<Kind extends string, Options, Custom = never> = Omit<
  g.Panel,
  'type' | 'options' | 'fieldConfig' | 'targets' | 'datasource' | 'transformations'
> & {
  type: Kind;
  options: Options;
  fieldConfig: Fields<Custom>;
  datasource: Datasource;
  targets: Query[];
  transformations?: Array<Organize | Merge | SortBy>;
};

type Panel =
  | Shown<'stat', Stat.Options>
  | Shown<'bargauge', BarGauge.Options>
  | Shown<'table', Table.Options, Table.FieldConfig>
  | Shown<'timeseries', TimeSeries.Options, TimeSeries.FieldConfig>
  | Shown<'state-timeline', StateTimeline.Options, StateTimeline.FieldConfig & g.GraphFieldConfig>
  | (Omit<g.Panel, 'type' | 'options' | 'fieldConfig' | 'targets' | 'datasource'> & { type: 'text'; options: Text.Options })
  | g.RowPanel;

export type Dashboard = Json<
  Omit<g.Dashboard, 'panels' | 'annotations'> & {
    panels: Panel[];
    annotations: { list: Array<Omit<g.AnnotationQuery, 'target'> & PrometheusAnnotation> };
  }
>;
