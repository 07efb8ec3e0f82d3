// The global WebSocket of browsers.
import WebSocket from "ws";

globalThis.WebSocket = WebSocket;
