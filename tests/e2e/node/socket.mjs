// The WebSocket that a browser has.
import WebSocket from "ws";

globalThis.WebSocket = WebSocket;
