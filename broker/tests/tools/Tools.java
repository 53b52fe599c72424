import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.common.utils.internals.Exit;

/**
 * Kafka's command-line tools, one after the other in one JVM: most of a tool's time is the start of its own.
 *
 * <pre>
 * A line of standard input is   CLASS IN OUT ERR ARGUMENT...   with tabs between them; IN, OUT and ERR are files.
 * The answer is a line on standard output: the status that the tool would have ended with.
 * </pre>
 */
public final class Tools {
    /** A tool wants to end its JVM. It may catch this, and want to end it once more: only the first time counts. */
    private static final class Ended extends Error {
        private Ended() {
            super("ended", null, false, false);
        }
    }

    /** The status with which the tool has ended. */
    private static Integer status;
    /** What a tool wants to be done when its JVM ends. */
    private static final List<Runnable> HOOKS = new ArrayList<>();

    public static void main(String[] none) throws Exception {
        Exit.setExitProcedure((status, message) -> {
            if (message != null) System.err.println(message);
            throw end(status);
        });
        Exit.setHaltProcedure((status, message) -> {
            throw end(status);
        });
        Exit.setShutdownHookAdder((name, hook) -> HOOKS.add(hook));
        PrintStream answers = System.out;
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split("\t", -1);
            try (InputStream in = new FileInputStream(words[1]);
                    PrintStream out = new PrintStream(new FileOutputStream(words[2]), true);
                    PrintStream err = new PrintStream(new FileOutputStream(words[3]), true)) {
                System.setIn(in);
                System.setOut(out);
                System.setErr(err);
                run(words[0], Arrays.copyOfRange(words, 4, words.length));
            }
            answers.println(status);
            answers.flush();
        }
    }

    private static Ended end(int wanted) {
        if (status == null) status = wanted;
        return new Ended();
    }

    private static void run(String name, String[] arguments) throws ReflectiveOperationException {
        status = null;
        try {
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException wrapped) {
            if (!(wrapped.getCause() instanceof Ended)) {
                wrapped.getCause().printStackTrace();
                end(1);
            }
        }
        if (status == null) status = 0;
        for (Runnable hook : HOOKS) hook.run();
        HOOKS.clear();
    }
}
