const PROGRAMS: [RegExp, string][] = [
  [/Edg(e|A|iOS)?\//, "Edge"],
  [/OPR\//, "Opera"],
  [/Firefox\/|FxiOS\//, "Firefox"],
  [/Chrome\/|CriOS\/|Chromium\//, "Chrome"],
  [/Safari\//, "Safari"],
];

const SYSTEMS: [RegExp, string][] = [
  [/iPhone/, "an iPhone"],
  [/iPad/, "an iPad"],
  [/Android/, "Android"],
  [/Windows/, "Windows"],
  [/Mac OS X|Macintosh/, "a Mac"],
  [/CrOS/, "ChromeOS"],
  [/Linux/, "Linux"],
];

/** `Chrome on Linux`, of what a browser calls itself. */
export function browser(program: string | null | undefined): string {
  if (!program) return "A browser";
  const find = (all: [RegExp, string][]) => all.find(([sign]) => sign.test(program))?.[1];
  const name = find(PROGRAMS);
  const system = find(SYSTEMS);
  if (!name) return system ? `A browser on ${system}` : program.slice(0, 60);
  return system ? `${name} on ${system}` : name;
}
