import { Link } from "@tanstack/react-router";
import type { Attempt, Task } from "../api/types";
import { Button } from "../ui/controls";
import { count, duration, short } from "../util/format";
import { paths } from "../util/paths";
import { Check } from "./Check";
import { State } from "./State";

interface Side {
  task: Task;
  /** The attempt that is shown below. */
  shown: number;
  now: number;
  onShow(n: number): void;
}

/** The attempts at a task side by side: a table where there is room, cards on a phone. */
export function Attempts(side: Side) {
  return (
    <section aria-label="Attempts" className="min-w-0">
      <table className="hidden w-full text-sm md:table">
        <thead className="text-left text-xs text-faint">
          <tr className="border-b border-line">
            {["Attempt", "Agent", "State", "Change", "Time", "Tokens", "Cost", "Check", ""].map(
              (title) => (
                <th key={title} scope="col" className="py-2 pr-4 font-medium">
                  {title || <span className="sr-only">Session</span>}
                </th>
              ),
            )}
          </tr>
        </thead>
        <tbody>
          {side.task.attempts.map((one) => (
            <Row key={one.n} {...side} attempt={one} />
          ))}
        </tbody>
      </table>
      <ul className="grid gap-3 md:hidden">
        {side.task.attempts.map((one) => (
          <Tile key={one.n} {...side} attempt={one} />
        ))}
      </ul>
    </section>
  );
}

function Row({ attempt, ...side }: Side & { attempt: Attempt }) {
  const facts = factsOf(attempt, side.now);
  const chosen = attempt.n === side.shown;
  return (
    <tr className={`border-b border-line ${chosen ? "bg-sunken" : ""}`}>
      <td className="py-2 pr-4 pl-1">
        <Choose {...side} attempt={attempt} />
      </td>
      <td className="max-w-52 py-2 pr-4">
        <Agent attempt={attempt} />
      </td>
      <td className="py-2 pr-4">
        <State state={attempt.state} />
      </td>
      <td className="py-2 pr-4 tabular-nums whitespace-nowrap">
        <Change attempt={attempt} />
      </td>
      <td className="py-2 pr-4 tabular-nums whitespace-nowrap">{facts.time}</td>
      <td className="py-2 pr-4 tabular-nums">{facts.tokens}</td>
      <td className="py-2 pr-4 tabular-nums">{facts.cost}</td>
      <td className="py-2 pr-4 whitespace-nowrap">
        {attempt.result?.check && <Check check={attempt.result.check} />}
      </td>
      <td className="py-2 text-right">
        <SessionLink attempt={attempt} />
      </td>
    </tr>
  );
}

function Tile({ attempt, ...side }: Side & { attempt: Attempt }) {
  const facts = factsOf(attempt, side.now);
  const chosen = attempt.n === side.shown;
  return (
    <li
      className={`grid gap-3 rounded-xl border p-4 ${chosen ? "border-accent bg-raised" : "border-line bg-raised"}`}
    >
      <div className="flex flex-wrap items-center justify-between gap-2">
        <Choose {...side} attempt={attempt} />
        <State state={attempt.state} />
      </div>
      <Agent attempt={attempt} />
      <dl className="grid grid-cols-2 gap-x-4 gap-y-1 text-sm">
        <Fact name="Change">{attempt.result && <Change attempt={attempt} />}</Fact>
        <Fact name="Time">{facts.time}</Fact>
        <Fact name="Tokens">{facts.tokens}</Fact>
        <Fact name="Cost">{facts.cost}</Fact>
        <Fact name="Check">{attempt.result?.check && <Check check={attempt.result.check} />}</Fact>
      </dl>
      <SessionLink attempt={attempt} />
    </li>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  if (!children) return null;
  return (
    <div className="flex gap-2">
      <dt className="text-faint">{name}</dt>
      <dd className="tabular-nums">{children}</dd>
    </div>
  );
}

/** Shows an attempt below; the best one says that it is. */
function Choose({ task, attempt, shown, onShow }: Side & { attempt: Attempt }) {
  const chosen = attempt.n === shown;
  const best = attempt.n === task.best && attempt.state === "succeeded";
  return (
    <span className="flex items-center gap-2 whitespace-nowrap">
      <Button
        aria-pressed={chosen}
        look={chosen ? "main" : "plain"}
        onClick={() => onShow(attempt.n)}
      >
        Attempt {attempt.n}
      </Button>
      {best && <span className="text-xs font-medium text-good">★ Best</span>}
    </span>
  );
}

function Agent({ attempt }: { attempt: Attempt }) {
  return (
    <span className="flex min-w-0 flex-wrap items-baseline gap-x-2">
      <span className="font-medium">{attempt.agent}</span>
      {attempt.model && (
        <span className="min-w-0 font-mono text-xs break-all text-faint">{attempt.model}</span>
      )}
    </span>
  );
}

function Change({ attempt }: { attempt: Attempt }) {
  const { result } = attempt;
  if (!result) return null;
  if (result.files.length === 0) return <span className="text-faint">nothing</span>;
  return (
    <>
      <span className="text-good">+{result.added}</span>{" "}
      <span className="text-bad">−{result.removed}</span>{" "}
      <span className="text-faint">{count(result.files.length, "file")}</span>
    </>
  );
}

function SessionLink({ attempt }: { attempt: Attempt }) {
  if (!attempt.session) return null;
  return (
    <Link
      to={paths.session(attempt.session)}
      aria-label={`Session of attempt ${attempt.n}`}
      className="text-sm text-accent underline"
    >
      Session
    </Link>
  );
}

function factsOf(attempt: Attempt, now: number) {
  const { started, ended, result } = attempt;
  const took = started
    ? Math.max(0, (ended ? Date.parse(ended) : now) - Date.parse(started))
    : null;
  const usage = result?.usage;
  const tokens =
    (usage?.input_tokens ?? 0) + (usage?.cached_tokens ?? 0) + (usage?.output_tokens ?? 0);
  return {
    time: took === null ? null : duration(took),
    tokens: tokens > 0 ? short(tokens) : null,
    cost: usage?.cost_usd == null ? null : `$${usage.cost_usd.toFixed(2)}`,
  };
}
