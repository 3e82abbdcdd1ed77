import java.util.concurrent.CountDownLatch;

import org.codelibs.opensearch.runner.OpenSearchRunner;

/**
 * One OpenSearch node, which answers HTTP on 127.0.0.1 alone. Arguments: the port, a folder for its data.
 *
 * The runner has a main method of its own, but that one takes ports from a fixed range, quietly moves on to another
 * when the port is taken, and listens on every loopback address.
 */
public final class OpenSearchNode {
    private OpenSearchNode() {
    }

    /** Serves until the process is told to stop. */
    public static void main(final String[] arguments) throws InterruptedException {
        final String port = arguments[0];
        final String folder = arguments[1];
        final OpenSearchRunner node = new OpenSearchRunner();
        node.setMaxHttpPort(-1); // the port given, and no search for a free one
        node.onBuild((number, settings) -> {
            settings.put("network.host", "127.0.0.1");
            settings.put("http.port", port);
            settings.put("transport.port", "0"); // nobody else is to join; any free port does
            settings.putList("node.roles", "cluster_manager", "data", "ingest");
            // A development machine's disk may be fuller than a server's should be.
            settings.put("cluster.routing.allocation.disk.threshold_enabled", false);
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
        try {
            node.build("-basePath", folder, "-clusterName", "footfall", "-numOfNode", "1");
        } catch (final RuntimeException error) {
            error.printStackTrace();
            System.exit(1);
        }
        new CountDownLatch(1).await();
    }

    private static void close(final OpenSearchRunner node) {
        try {
            node.close();
        } catch (final Exception error) {
            System.err.println("OpenSearch did not close cleanly: " + error);
        }
    }
}
