"""Cross-origin requests of allowed origins: the headers that their pages may send and read.

Source: the CORS protocol of Fetch. A header that a preflight does not allow stops the whole
request in the browser, so the headers that widespread clients add by themselves are allowed.
"""

from collections.abc import Iterable

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

METHODS = ("GET", "POST", "PUT", "DELETE")

OWN_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-Id")
"""Request headers that the gateway reads, besides those that CORS always allows."""

GRAPHQL_HEADERS = (
    # Apollo Client, Apollo iOS and Kotlin, and their defence against forged requests.
    *("Apollo-Require-Preflight", "Apollographql-Client-Name", "Apollographql-Client-Version"),
    *("Apollographql-Library-Name", "Apollographql-Library-Version"),
    *("X-Apollo-Operation-Id", "X-Apollo-Operation-Name", "X-Apollo-Operation-Type"),
    *("X-Apollo-Cache-Key", "X-Apollo-Cache-Fetch-Strategy", "X-Apollo-Expire-Timeout"),
    *("X-Apollo-Expire-After-Read", "X-Apollo-Prefetch", "X-Apollo-Cache-Do-Not-Store"),
    # The specification's name, and those of GraphQL Yoga and of Hive's clients.
    *("GraphQL-Require-Preflight", "X-GraphQL-Yoga-Csrf"),
    *("GraphQL-Client-Name", "GraphQL-Client-Version", "X-GraphQL-Client-Name"),
    *("X-GraphQL-Client-Version", "X-GraphQL-Event-Stream-Token"),
)

TRACE_HEADERS = (
    # W3C Trace Context and Baggage, as of OpenTelemetry; B3 and Jaeger.
    *("Traceparent", "Tracestate", "Baggage"),
    *("B3", "X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId", "X-B3-Sampled", "X-B3-Flags"),
    "Uber-Trace-Id",
    # Sentry, Datadog, New Relic, Elastic, AWS X-Ray, Azure Application Insights, Google Cloud.
    "Sentry-Trace",
    *("X-Datadog-Origin", "X-Datadog-Parent-Id", "X-Datadog-Sampled"),
    *("X-Datadog-Sampling-Priority", "X-Datadog-Tags", "X-Datadog-Trace-Id"),
    "Newrelic",
    "Elastic-Apm-Traceparent",
    "X-Amzn-Trace-Id",
    *("Request-Id", "Request-Context"),
    "X-Cloud-Trace-Context",
    *("X-Correlation-Id", "X-Session-Id"),
)

COMMON_HEADERS = (
    # Caches, conditions, and what fetch wrappers such as axios add.
    *("Cache-Control", "Pragma", "If-Match", "If-None-Match", "If-Modified-Since", "Prefer"),
    *("X-Requested-With", "X-CSRF-Token", "X-XSRF-Token", "X-Client-Version"),
)

VENDOR_HEADERS = (
    # The SDKs of the REST documents, of which some send several with every request.
    *("X-Moltin-Application", "X-Moltin-Auth-Store", "X-Moltin-Currencies", "X-Moltin-Currency"),
    *("X-Moltin-Customer-Id", "X-Moltin-Customer-Token", "X-Moltin-Language"),
    *("X-Moltin-Sdk-Language", "X-Moltin-Sdk-Version"),
    *("X-Moltin-Settings-Additional_languages", "X-Moltin-Settings-Integration_limit"),
    *("X-Moltin-Settings-Page_Length", "X-Moltin-Settings-Page_offset_limit"),
    "X-Moltin-Settings-Page-Length",
    *("EP-Account-Management-Authentication-Token", "EP-Beta-Features", "EP-Channel"),
    *("EP-Context-Tag", "EP-Inventories-Multi-Location"),
    *("EP-Internal-Account-Id", "EP-Internal-Auth-Org", "EP-Internal-Parent-Account-Ids"),
    "EP-Pricebook-IDs-For-Price-Segmentation-Preview",
    "EP-Pricebook-IDs-Of-Available-Prices-To-Show",
)

KNOWN_HEADERS = (
    *OWN_HEADERS,
    *GRAPHQL_HEADERS,
    *TRACE_HEADERS,
    *COMMON_HEADERS,
    *VENDOR_HEADERS,
)

EXPOSED_HEADERS = (
    *("Allow", "Idempotent-Replayed", "Retry-After", "WWW-Authenticate", "X-Request-Id"),
)
"""Response headers that pages may read."""


def cors_middleware(origins: Iterable[str], headers: Iterable[str]) -> Middleware:
    """Return the middleware for these origins, which allows KNOWN_HEADERS and `headers`."""
    return Middleware(
        CORSMiddleware,
        allow_origins=tuple(origins),
        allow_methods=METHODS,
        allow_headers=(*KNOWN_HEADERS, *headers),
        expose_headers=EXPOSED_HEADERS,
    )
