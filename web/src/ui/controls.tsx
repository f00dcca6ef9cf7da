/** Buttons, fields and other small parts. They know nothing of Boatyard. */
import {
  type AnchorHTMLAttributes,
  type ButtonHTMLAttributes,
  type InputHTMLAttributes,
  type ReactNode,
  type SelectHTMLAttributes,
  type TextareaHTMLAttributes,
  useId,
  useState,
} from "react";
import { whole } from "../util/format";

const BUTTON =
  "inline-flex min-h-11 items-center justify-center gap-2 rounded-lg px-4 text-sm font-medium transition-colors disabled:cursor-not-allowed disabled:opacity-55 sm:min-h-9";
const LOOKS = {
  main: "bg-accent text-accent-ink enabled:hover:brightness-95",
  plain: "border border-line bg-raised text-ink enabled:hover:bg-sunken",
  bad: "border border-line bg-raised text-bad enabled:hover:bg-bad-wash",
};

export function Button({
  look = "plain",
  className = "",
  ...rest
}: ButtonHTMLAttributes<HTMLButtonElement> & { look?: keyof typeof LOOKS }) {
  return <button type="button" className={`${BUTTON} ${LOOKS[look]} ${className}`} {...rest} />;
}

/** A link that looks like a button: it leads elsewhere. */
export function ButtonLink({
  className = "",
  children,
  ...rest
}: AnchorHTMLAttributes<HTMLAnchorElement>) {
  return (
    <a className={`${BUTTON} ${LOOKS.plain} hover:bg-sunken ${className}`} {...rest}>
      {children}
    </a>
  );
}

const CONTROL =
  "w-full rounded-lg border bg-raised px-3 py-2 text-base text-ink placeholder:text-faint sm:text-sm";
const edge = (bad: boolean) => (bad ? "border-bad" : "border-line");

interface Labelled {
  label: string;
  hint?: ReactNode;
  /** What is wrong with it, and what to do. */
  problem?: string;
}

function Field({
  label,
  hint,
  problem,
  id,
  children,
}: Labelled & { id: string; children: ReactNode }) {
  return (
    <div className="grid min-w-0 gap-1.5">
      <label htmlFor={id} className="text-sm font-medium">
        {label}
      </label>
      {children}
      {problem ? (
        <p id={`${id}-note`} role="alert" className="text-sm text-bad">
          {problem}
        </p>
      ) : (
        hint && (
          <p id={`${id}-note`} className="text-xs text-faint">
            {hint}
          </p>
        )
      )}
    </div>
  );
}

const told = (id: string, { hint, problem }: Labelled) => ({
  id,
  "aria-invalid": problem ? true : undefined,
  "aria-describedby": hint || problem ? `${id}-note` : undefined,
});

export function TextField({
  label,
  hint,
  problem,
  className = "",
  ...rest
}: Labelled & InputHTMLAttributes<HTMLInputElement>) {
  const id = useId();
  const field = { label, hint, problem };
  return (
    <Field {...field} id={id}>
      <input
        className={`${CONTROL} ${edge(!!problem)} min-h-11 read-only:text-soft sm:min-h-9 ${className}`}
        {...told(id, field)}
        {...rest}
      />
    </Field>
  );
}

/** A password, which one can look at while typing it. */
export function PasswordField({
  label,
  hint,
  problem,
  ...rest
}: Labelled & InputHTMLAttributes<HTMLInputElement>) {
  const id = useId();
  const [shown, setShown] = useState(false);
  const field = { label, hint, problem };
  return (
    <Field {...field} id={id}>
      <div className="relative">
        <input
          className={`${CONTROL} ${edge(!!problem)} min-h-11 pr-16 sm:min-h-9`}
          spellCheck={false}
          autoCapitalize="off"
          {...told(id, field)}
          {...rest}
          type={shown ? "text" : "password"}
        />
        <button
          type="button"
          aria-label={`Show ${label.toLowerCase()}`}
          aria-pressed={shown}
          className="absolute inset-y-1 right-1 rounded-md px-2.5 text-xs text-soft hover:bg-sunken hover:text-ink"
          onClick={() => setShown(!shown)}
        >
          {shown ? "Hide" : "Show"}
        </button>
      </div>
    </Field>
  );
}

export function TextArea({
  label,
  hint,
  problem,
  ...rest
}: Labelled & TextareaHTMLAttributes<HTMLTextAreaElement>) {
  const id = useId();
  const field = { label, hint, problem };
  return (
    <Field {...field} id={id}>
      <textarea
        className={`${CONTROL} ${edge(!!problem)} field-sizing-content max-h-80 min-h-20 resize-y`}
        {...told(id, field)}
        {...rest}
      />
    </Field>
  );
}

export function Select({
  label,
  hint,
  problem,
  ...rest
}: Labelled & SelectHTMLAttributes<HTMLSelectElement>) {
  const id = useId();
  const field = { label, hint, problem };
  return (
    <Field {...field} id={id}>
      <select
        className={`${CONTROL} ${edge(!!problem)} min-h-11 sm:min-h-9`}
        {...told(id, field)}
        {...rest}
      />
    </Field>
  );
}

const TONES = {
  quiet: "bg-sunken text-soft",
  good: "bg-good-wash text-good",
  bad: "bg-bad-wash text-bad",
  warn: "bg-warn-wash text-warn",
  accent: "bg-accent-wash text-accent",
};
export type Tone = keyof typeof TONES;

export function Badge({ tone, sign, children }: { tone: Tone; sign: string; children: ReactNode }) {
  return (
    <span
      className={`inline-flex items-center gap-1.5 whitespace-nowrap rounded-full px-2.5 py-0.5 text-xs font-medium ${TONES[tone]}`}
    >
      <span aria-hidden="true">{sign}</span>
      <span>{children}</span>
    </span>
  );
}

export function Note({ tone, children }: { tone: Tone; children: ReactNode }) {
  return <div className={`rounded-lg px-3.5 py-2.5 text-sm ${TONES[tone]}`}>{children}</div>;
}

/** What went wrong, what to do, and the number to ask by. */
export function Failure({ cause }: { cause: unknown }) {
  const problem = cause as {
    message?: string;
    next?: string;
    body?: { request_id?: string | null };
  };
  return (
    <div role="alert" className={`grid gap-1 rounded-lg px-3.5 py-2.5 text-sm ${TONES.bad}`}>
      <p>{whole(problem.message || "Something went wrong")}</p>
      {problem.next && <p>{whole(problem.next)}</p>}
      {problem.body?.request_id && <p className="text-xs">Request {problem.body.request_id}</p>}
    </div>
  );
}

export function Card({ children, className = "" }: { children: ReactNode; className?: string }) {
  return (
    <section className={`min-w-0 rounded-xl border border-line bg-raised ${className}`}>
      {children}
    </section>
  );
}
