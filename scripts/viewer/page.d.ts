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
  /** Placed between two others of its film, which does not show it. */
  interpolated?: boolean;
  /** Of each name, as the network sees it; not of what the user called otherwise. */
  level_posterior?: PerLevel<number>;
}

type Marks = PerView<PerLevel<Mark>>;

/** What the service says of marks that were sent: `set_marks` of scripts/viewer/case.py. */
interface Following {
  geometry: Geometry;
  /** Relative standard deviations of the films' scales; zero for calibrated films. */
  scale_sd: [number, number];
  warnings: string[];
  /** Fingerprints of what each vertebra is made from; only of those that were reconstructed at some time. */
  keys: PerLevel<string>;
  /** Levels that have been reconstructed from these very marks. */
  made: string[];
  /** Fingerprint of all marks together. */
  spine: string;
}

/** `describe` of scripts/viewer/case.py, with the case's id. */
interface Case extends Following {
  id: string;
  name: string;
  /** Fingerprint of both films. */
  films: string;
  /** Whether every mark moves the geometry of all, as on films that do not know their own scale or place. */
  follows_marks: boolean;
  views: PerView<{ shape: [number, number]; pixel_mm: [number, number] }>;
  marks: PerView<{ film?: string; vertebrae: (Mark & { level: string })[] }>;
  levels: { name: string; colour: string }[];
  levels_uncertain: boolean;
  levels_confirmed: boolean;
  end_vertebrae: EndVertebrae[];
}

/** A file that was sent: `inspect` of scripts/viewer/candidates.py. */
interface FoundFile {
  name: string;
  kind: "film" | "annotations" | "geometry" | "other";
  reason?: string;
}

interface FoundFilm extends FoundFile {
  view: ViewName | "";
  known: "header" | "name" | "";
  attribute: string;
  oblique: boolean;
  shape: [rows: number, columns: number];
  pixel_mm: Pixel | null;
  scale: string;
  oriented: boolean;
  placed: boolean;
  square: boolean;
}

interface Inspected {
  file: FoundFile | FoundFilm;
  chosen: PerView<string | null> & { annotations: string | null; geometry: string | null };
}

/** A film with what the user says of it. */
interface ChosenFilm extends FoundFilm {
  /** The user's name of its file. */
  given: string;
  url: string;
  /** Degrees clockwise. */
  turn: number;
  mirror: boolean;
  invert: boolean;
  /** mm a pixel that the user gives; null where the file's is used. */
  spacing: number | null;
}

/** What opens a case: `chosen_files` and `reading_options` of scripts/viewer/choice.py. */
interface Choice extends PerView<string> {
  annotations?: string;
  geometry?: string;
  spacing: (number | null)[];
  turn: number[];
  mirror: ViewName[];
  invert: ViewName[];
}

/** A line of the answer to the opening of a case: how many other computations go before a step, 0 when it begins. */
interface Opening {
  step: string;
  waiting: number;
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
  spine: string;
  /** The marks that it was made from. */
  marks: PerView<Pixel>;
  outlines: PerView<Pixel[][]>;
}

/** A step of the history. Nothing in it ever changes. */
interface Step {
  readonly marks: Marks;
  readonly what: string;
  readonly chosen: ReadonlySet<string>;
  readonly uncertain: boolean;
  readonly confirmed: boolean;
  readonly ends: readonly EndVertebrae[];
}

/** What this browser keeps of a case: steps, no films. `chosen` are lists here. */
interface Draft {
  id: string;
  name: string;
  films: string;
  /** When it was last changed, ms. */
  at: number;
  position: number;
  steps: (Omit<Step, "chosen"> & { chosen: string[] })[];
}

/** Whether a vertebra may be used, and why not. */
interface Status {
  use: "" | "failed" | "outdated" | "not ticked" | "being checked" | "good" | "check" | "do not use";
  reasons: string[];
  confidence?: number;
}

/** `measure` of scripts/viewer/measure.py. */
interface Measurements {
  curves?: SpineCurve[];
  /** The bend of the line through the bodies, with its ends. */
  midline?: string;
  /** What to say where there is no Cobb angle. */
  no_curve?: string;
  plates?: PerLevel<PlateLines>;
  /** Those that the user had chosen. */
  end_vertebrae?: EndVertebrae[];
  vertebrae?: MeasuredVertebra[];
  /** Fingerprints of what was measured. */
  keys?: PerLevel<string>;
  note: string;
}

/** End vertebrae of scripts/io/annotations.schema.json. */
interface EndVertebrae {
  measure: "cobb" | "kyphosis" | "lordosis";
  upper: string;
  lower: string;
}

/** `curves_of` of scripts/viewer/measure.py. */
interface SpineCurve extends EndVertebrae {
  chosen_by: "program" | "user";
  name: string;
  text: string;
  missing: string;
  drawn: string;
  lines: { view: ViewName; pixels: Pixel[][]; mm: number[][][] } | null;
}

/** The end plates of a vertebra: a line for each on either film; in space both lines of each. */
interface PlateLines extends PerView<Pixel[][]> {
  mm: number[][][];
}

interface MeasuredVertebra {
  level: string;
  use: "good" | "check" | "do not use";
  reasons: string[];
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
