// What the page's scripts and the service tell each other; all of it is known to every script of the page.

type ViewName = "ap" | "lat";
type Pixel = [row: number, column: number];
type PerView<T> = Record<ViewName, T>;
type PerLevel<T> = Record<string, T>;

/** `View.to_dict` of scripts/geometry/biplanar.py. */
interface View {
  beam: "parallel" | "slot" | "cone";
  row_direction: number[];
  column_direction: number[];
  beam_direction: number[];
  isocentre_mm: number[];
  principal_point: Pixel;
  pixel_spacing_mm: Pixel;
  source_to_isocentre_mm: number | null;
  source_to_detector_mm: number | null;
}

type Geometry = PerView<View>;

/** A mark of scripts/io/annotations.schema.json without its level. */
interface Mark {
  centroid: Pixel;
  corners: Pixel[] | null;
  confidence: number;
  set_by: "model" | "edited";
}

type Marks = PerView<PerLevel<Mark>>;

/** `describe` of scripts/viewer/case.py, with the case's id. */
interface Case {
  id: string;
  name: string;
  views: PerView<{ shape: [number, number]; pixel_mm: [number, number] }>;
  geometry: Geometry;
  marks: PerView<{ vertebrae: (Mark & { level: string })[] }>;
  levels: { name: string; colour: string }[];
  warnings: string[];
  levels_uncertain: boolean;
}

/** A line of the answer to a reconstruction: how many other computations go before a vertebra's, 0 when it begins. */
interface Waiting {
  waiting: number;
  level: string;
  number: number;
  total: number;
}

/** A line of the answer to a reconstruction: one vertebra, its failure, or the end of what was cancelled. */
interface Result {
  done: number;
  total: number;
  cancelled?: boolean;
  error?: string;
  /** The same may succeed if it is asked for again. */
  retry?: boolean;
  level: string;
  key: string;
  confidence: number;
  outlines?: PerView<Pixel[][]>;
  flags?: string[];
  /** The marks that it was made from. */
  marked?: string;
}

/** `measure` of scripts/viewer/measure.py. */
interface Measurements {
  curves?: { name: string; text: string }[];
  vertebrae?: MeasuredVertebra[];
  note: string;
}

interface MeasuredVertebra {
  level: string;
  confidence: number;
  flags: string[];
  rotation: string;
  wedge: string;
  heights_mm: string;
  missing: string;
}

interface Surface {
  positions: Float32Array;
  indices: Uint32Array;
}

/** What has changed. */
type Change = "case" | "marks" | "selection" | "results" | "look" | "warnings" | "settled";
