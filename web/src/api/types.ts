/** Names for the types of the API, which are generated from its description. */
import type { components } from "./__generated__/schema";

type Schemas = components["schemas"];

export type Agent = Schemas["Agent"];
export type Attempt = Schemas["Attempt"];
export type AttemptState = Schemas["AttemptState"];
export type CheckResult = Schemas["CheckResult"];
export type Choice = Schemas["Choice"];
export type Content = Schemas["Content"];
export type Diff = Schemas["Diff"];
export type DiffFile = Schemas["DiffFile"];
export type Event = Schemas["Event"];
export type FeedEvent = Schemas["FeedEvent"];
export type Identity = Schemas["Identity"];
export type NewTask = Schemas["NewTask"];
export type NoticeLevel = Schemas["NoticeLevel"];
export type PermissionOption = Schemas["PermissionOption"];
export type Phase = Schemas["Phase"];
export type PlanEntry = Schemas["PlanEntry"];
export type Prompt = Schemas["Prompt"];
export type PromptMode = Schemas["PromptMode"];
export type Session = Schemas["Session"];
export type SessionChange = Schemas["SessionChange"];
export type SessionState = Schemas["SessionState"];
export type Task = Schemas["Task"];
export type TaskResult = Schemas["TaskResult"];
export type TaskSummary = Schemas["TaskSummary"];
export type ToolCall = Schemas["ToolCall"];
export type ToolDiff = Schemas["ToolDiff"];
export type ToolStatus = Schemas["ToolStatus"];
export type Usage = Schemas["Usage"];
export type ProblemBody = Schemas["Problem"];
